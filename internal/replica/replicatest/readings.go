package replicatest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// Linearizable asks for the newest state.
var Linearizable = kv.ReadOptions{Level: kv.Linearizable}

// Readings are the ways to look for a key with a linearizable read.
var Readings = map[string]func(replica.Replica, string) (bool, error){
	"get": func(r replica.Replica, key string) (bool, error) {
		_, found, _, err := r.Get(context.Background(), []byte(key), Linearizable)
		return found, err
	},
	"multi-get": func(r replica.Replica, key string) (bool, error) {
		pairs, _, err := r.MultiGet(context.Background(), [][]byte{[]byte("other"), []byte(key)}, Linearizable)
		return len(pairs) > 0, err
	},
	"view": func(r replica.Replica, key string) (bool, error) {
		v, _, err := r.View(context.Background(), Linearizable)
		if err != nil {
			return false, err
		}
		defer v.Close()
		pairs, err := v.MultiGet([][]byte{[]byte(key)})
		it := v.Iterate(storage.Prefix([]byte(key)))
		defer it.Close()
		return len(pairs) > 0 || it.Next(), err
	},
}

// Decade is by how much a wrong clock is wrong.
const Decade = 10 * 365 * 24 * time.Hour

// AheadBy gives a rig a wall clock that is ahead by so many nanoseconds.
func AheadBy(ahead *atomic.Int64) Change {
	return func(r *Rig) {
		r.Opts.Clock = WallClock(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	}
}

// Awaits waits for an index in the background.
func Awaits(ctx context.Context, r replica.Replica, index kv.Index) chan error {
	done := make(chan error, 1)
	go func() { done <- r.AwaitApplied(ctx, index) }()
	return done
}

// SetSlave is a command that lists a slave, or removes it from the list.
func SetSlave(address string, keep bool) *command.Command {
	return &command.Command{Kind: command.SetSlave, Flag: keep, Expect: command.Slave{Zone: "z", Address: address}.Append(nil)}
}

// WantNoLeftovers closes a replica and checks what it leaves.
func WantNoLeftovers(t *testing.T, r *Node, backups string) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if r.Opts.Generations != nil {
		want := []string{"CURRENT", filepath.Base(r.Opts.Generations.Current())}
		if got := r.Folder(); !slices.Equal(got, want) {
			t.Errorf("the folder holds %q, want %q", got, want)
		}
	}
	entries, err := os.ReadDir(backups)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the backup: %v, %v", entries, err)
	}
}
