package state_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

// watchedEngine calls what a test wants at the moments at which the index of a read
// could be that of another state.
type watchedEngine struct {
	storage.Engine
	// beforeRead is called once, before a key is looked up, and afterWrite behind a
	// write that is visible already.
	beforeRead, afterWrite *atomic.Pointer[func()]
}

func (e watchedEngine) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	e.once(s, e.beforeRead)
	return e.Engine.Get(s, key)
}

func (e watchedEngine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	e.once(s, e.beforeRead)
	return e.Engine.MultiGet(s, keys)
}

func (e watchedEngine) once(s storage.Space, f *atomic.Pointer[func()]) {
	if s != storage.Data {
		return
	}
	if call := f.Swap(nil); call != nil {
		(*call)()
	}
}

func (e watchedEngine) Write(b *storage.Batch, sync bool) error {
	err := e.Engine.Write(b, sync)
	e.once(storage.Data, e.afterWrite)
	return err
}

// oneKey are the ways to read a key without a view. They return its value.
var oneKey = map[string]func(replica.Replica, string, kv.ReadOptions) (string, kv.Index, error){
	"get": func(r replica.Replica, key string, opts kv.ReadOptions) (string, kv.Index, error) {
		p, _, info, err := r.Get(context.Background(), []byte(key), opts)
		return string(p.Value), info.Index, err
	},
	"multi-get": func(r replica.Replica, key string, opts kv.ReadOptions) (string, kv.Index, error) {
		pairs, info, err := r.MultiGet(context.Background(), [][]byte{[]byte(key)}, opts)
		if err != nil || len(pairs) == 0 {
			return "", info.Index, err
		}
		return string(pairs[0].Value), info.Index, nil
	},
}

// The index of a read is that of the state which it shows, also if the state grows
// under it: who reads from there on, on any replica, sees no older state, and who
// follows the changes from there misses none.
func TestIndexIsThatOfTheStateRead(t *testing.T) {
	for name, read := range oneKey {
		for _, level := range []kv.ReadLevel{kv.Sequential, kv.Linearizable} {
			t.Run(fmt.Sprint(name, " ", level), func(t *testing.T) {
				var beforeRead, afterWrite atomic.Pointer[func()]
				r := replicatest.RunNode(t, func(r *replicatest.Rig) {
					open := r.Opts.Open
					r.Opts.Open = func(dir string) (storage.Engine, error) {
						e, err := open(dir)
						return watchedEngine{e, &beforeRead, &afterWrite}, err
					}
				})
				written := map[string]kv.Index{"1": r.MustPut("k", "1")}
				check := func(when string) {
					t.Helper()
					value, index, err := read(r, "k", kv.ReadOptions{Level: level})
					if err != nil || index != written[value] {
						t.Errorf("%s: value %q, which was written at %d, is shown with index %d, %v", when, value, written[value], index, err)
					}
				}
				check("at rest")

				between := func() { written["2"] = r.MustPut("k", "2") }
				beforeRead.Store(&between)
				check("written between the index and the value")

				written["3"] = written["2"] + 1
				visible := func() { check("written, and not published") }
				afterWrite.Store(&visible)
				r.MustPut("k", "3")
			})
		}
	}
}
