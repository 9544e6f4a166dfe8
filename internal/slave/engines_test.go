package slave

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/badger"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/rocksdb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// engine is a kind of engine for a slave.
type engine struct {
	name string
	open func(dir string) (storage.Engine, error)
	// limit is what it writes at once.
	limit  storage.BatchLimit
	onDisk bool
}

var engines = []engine{
	{"rocksdb", func(dir string) (storage.Engine, error) {
		return rocksdb.Open(rocksdb.Options{Dir: dir, BlockCacheBytes: 8 << 20, WriteBufferBytes: 8 << 20})
	}, storage.BatchLimit{}, true},
	{"badger", func(dir string) (storage.Engine, error) {
		return badger.Open(badger.Options{Dir: dir, BlockCacheBytes: 8 << 20, ReserveBytes: 1 << 20})
	}, storage.BatchLimit{Bytes: badger.MaxBatchBytes, Ops: badger.MaxBatchOps}, true},
	{"diskless", func(string) (storage.Engine, error) {
		return badger.Open(badger.Options{Diskless: true, BlockCacheBytes: 8 << 20})
	}, storage.BatchLimit{Bytes: badger.MaxBatchBytes, Ops: badger.MaxBatchOps}, false},
}

// on has a slave keep its state in an engine, below folder if it has a disk.
func (e engine) on(t testing.TB, folder string) func(*Options, *follower.Options) {
	dir, err := datadir.Open(folder, datadir.Identity{Engine: e.name, Database: "db", VBuckets: 1, Holds: datadir.Copy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	// Called once for each time that a slave is started there.
	return func(_ *Options, o *follower.Options) {
		o.Open, o.BatchLimit = e.open, e.limit
		if !e.onDisk {
			return
		}
		if o.Generations, err = dir.VBucket("default"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEngines follows on each engine, with changes that are more than some of them
// write at once.
func TestEngines(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t)
			m := r.master("m1:1")
			m.fill("k", 3000, 500)
			s := r.slave(source.Fixed("m1:1"), streaming, e.on(t, t.TempDir()))
			s.has(m)
			m.fill("k", 2000, 100)
			var large []kv.Mutation
			for i := range 8 {
				large = append(large, kv.Mutation{Key: fmt.Appendf(nil, "large%d", i), Value: make([]byte, 1<<20)})
			}
			m.write(large...)
			m.fill("l", 2000, 100)
			s.has(m)
			if st := s.Puller.Status(); st.Bootstraps != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// A reader of a slave never sees a part of a MultiPut, even if that is more than the
// slave's engine writes at once.
func TestLargeMultiPutIsNeverSeenByHalves(t *testing.T) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t)
			m := r.master("m1:1")
			const keys = badger.MaxBatchOps/3 + 1 // beyond what Badger writes at once
			round := func(n byte) {
				ms := make([]kv.Mutation, keys)
				for i := range ms {
					ms[i] = kv.Mutation{Key: fmt.Appendf(nil, "k%06d", i), Value: []byte{n}}
				}
				m.write(ms...)
			}
			round(0)
			s := r.slave(source.Fixed("m1:1"), streaming, e.on(t, t.TempDir()))
			s.has(m)
			done := make(chan struct{})
			var reads atomic.Int64
			var group sync.WaitGroup
			group.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					pairs, _, err := s.Replica.MultiGet(t.Context(), [][]byte{[]byte("k000000"), fmt.Appendf(nil, "k%06d", keys-1)}, kv.ReadOptions{})
					if err != nil || len(pairs) != 2 || pairs[0].Value[0] != pairs[1].Value[0] {
						t.Errorf("a part of a MultiPut: %v, %v", pairs, err)
						return
					}
					reads.Add(1)
					time.Sleep(time.Millisecond) // the slave has to write meanwhile
				}
			})
			for n := range byte(2) {
				round(n + 1)
			}
			s.has(m)
			testkit.Eventually(t, "something was read", func() bool { return reads.Load() > 0 || t.Failed() })
			close(done)
			group.Wait()
		})
	}
}

// TestKilledInSnapshot takes the slave's folder as a kill in the middle of a bootstrap
// leaves it, twice: of the first state, and of one that replaces it. What was there
// before is found again.
func TestKilledInSnapshot(t *testing.T) {
	for _, e := range engines {
		if !e.onDisk {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t)
			m, other := r.master("m1:1"), r.master("m2:1")
			m.fill("k", 3000, 1000)
			other.fill("o", 3000, 1000)
			killed := killedInReplace(r, e, t.TempDir(), m)
			s := r.slave(source.Fixed("m1:1"), streaming, e.on(t, killed))
			s.has(m)
			s.stop()
			if err := s.Replica.Close(); err != nil {
				t.Fatal(err)
			}
			killed = killedInReplace(r, e, testkit.Image(t, killed), other)
			s = r.slave(source.Fixed("m1:1"), streaming, e.on(t, killed))
			if id, at := s.Position(); id != m.Replica.Status().Identity || at != m.Replica.Status().Applied {
				t.Errorf("found again: %v at %d", id, at)
			}
			m.put("k", "v")
			s.has(m)
			if st := s.Puller.Status(); st.Bootstraps != 0 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// killedInReplace begins to replace the state in a folder, and returns the folder as
// it is in the middle of that.
func killedInReplace(r *rig, e engine, folder string, by *node) string {
	t := r.t.(*testing.T)
	opts := follower.Options{Options: r.options()}
	e.on(t, folder)(nil, &opts)
	f := r.follower(opts)
	half, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- f.Replace(context.Background(), true, func(ctx context.Context, open func() (storage.Engine, error)) error {
			return loadFrom(by)(ctx, func() (storage.Engine, error) {
				into, err := open()
				return &haltedEngine{Engine: into, halted: half, until: ctx.Done()}, err
			})
		})
	}()
	<-half
	out := testkit.Image(t, folder)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Fatal("the state was replaced")
	}
	return out
}

// haltedEngine stops at its third write.
type haltedEngine struct {
	storage.Engine
	n      int
	halted chan<- struct{}
	until  <-chan struct{}
}

func (e *haltedEngine) Write(b *storage.Batch, sync bool) error {
	if e.n++; e.n < 3 {
		return e.Engine.Write(b, sync)
	}
	close(e.halted)
	<-e.until
	return context.Canceled
}

// BenchmarkCatchUp measures how fast a slave that was away gets and applies what it
// has missed.
func BenchmarkCatchUp(b *testing.B) {
	for _, e := range engines {
		for mode, set := range map[string]func(*Options, *follower.Options){"poll": polling, "stream": streaming} {
			b.Run(e.name+"/"+mode, func(b *testing.B) {
				r := newRig(b)
				m := r.master("m1:1")
				s := r.slave(source.Fixed("m1:1"), set, e.on(b, b.TempDir()))
				s.has(m)
				const each = 50_000
				value := make([]byte, 128)
				b.ResetTimer()
				for range b.N {
					b.StopTimer()
					s.stop()
					for i := range each {
						m.write(kv.Mutation{Key: fmt.Appendf(nil, "key-%012d", i), Value: value})
					}
					b.StartTimer()
					s.restart()
					want := m.Replica.Status().Applied
					for at := kv.Index(0); at < want; _, at = s.Position() {
						time.Sleep(time.Millisecond)
					}
				}
				b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "changes/s")
			})
		}
	}
}

// A key that the slave's engine cannot hold is named. The slave stays where it is, is read,
// and goes on in an engine that can.
func TestKeyBeyondTheEngineIsNamed(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 10, 100)
	e := engines[1]
	e.limit.Key = 1000
	s := r.slave(source.Fixed("m1:1"), streaming, e.on(t, t.TempDir()))
	s.has(m)
	m.write(kv.Mutation{Key: bytes.Repeat([]byte("L"), 1001), Value: []byte("v")})
	testkit.Eventually(t, "the key is named", func() bool {
		err := s.Puller.Status().Err
		return err != nil && strings.Contains(err.Error(), `begins with "LLLL`) && strings.Contains(err.Error(), "--db-engine rocksdb")
	})
	if state := s.State(); state != replica.Serving {
		t.Errorf("the slave is %v", state)
	}
	r.slave(source.Fixed("m1:1"), streaming, engines[0].on(t, t.TempDir())).has(m)
}
