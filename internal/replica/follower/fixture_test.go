package follower

import (
	"context"
	"testing"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

// rig is a Follower over engines as those of a rig.
type rig struct {
	*Replica
	*replicatest.Rig
	reject bool
}

// newRig opens a follower and runs it.
func newRig(t *testing.T, changes ...replicatest.Change) *rig {
	t.Helper()
	f := &rig{Rig: replicatest.NewRig(t, changes...)}
	f.openFollower()
	t.Cleanup(func() {
		if err := f.Replica.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return f
}

func (f *rig) openFollower() {
	f.T.Helper()
	var err error
	f.Replica, err = Open(Options{Options: f.Opts, BatchLimit: f.BatchLimit, Reject: f.reject})
	if err != nil {
		f.T.Fatal("open:", err)
	}
	follower := f.Replica
	go func() {
		if err := follower.Run(context.Background()); err != nil {
			f.T.Error("run:", err)
		}
	}()
	<-follower.Served()
}

// reopen closes the follower as a process that ends, and opens it again.
func (f *rig) again() {
	f.T.Helper()
	if err := f.Replica.Close(); err != nil {
		f.T.Fatal(err)
	}
	f.Reread()
	f.openFollower()
}

// loadFrom fills an engine with the state of a replica.
func loadFrom(src replica.Replica) Load {
	return func(ctx context.Context, open func() (storage.Engine, error)) error {
		engine, err := open()
		if err != nil {
			return err
		}
		view, _, err := src.View(ctx, kv.ReadOptions{})
		if err != nil {
			return err
		}
		defer view.Close()
		l := chunks.NewLoader(engine)
		for position := []byte(nil); ; {
			var payload []byte
			if payload, position, err = view.Chunk(position, 64); err != nil {
				return err
			}
			if err := l.Add(payload); err != nil {
				return err
			}
			if len(position) == 0 {
				return l.Finish()
			}
		}
	}
}

func (f *rig) mustReplace(src replica.Replica) {
	f.T.Helper()
	if err := f.Replace(context.Background(), false, loadFrom(src)); err != nil {
		f.T.Fatal("replace:", err)
	}
}

// mustFollow brings the follower to where src is.
func (f *rig) mustFollow(src replica.Replica) {
	f.T.Helper()
	_, at := f.Position()
	c, err := src.Changes(context.Background(), at+1, 0, 1<<30)
	if err != nil {
		f.T.Fatal(err)
	}
	if err := f.Apply(context.Background(), at, c.Changes, c.Newest); err != nil {
		f.T.Fatal("apply:", err)
	}
}

func (f *rig) WantValue(key, want string) {
	f.T.Helper()
	p, _, _, err := f.Replica.Get(context.Background(), []byte(key), kv.ReadOptions{})
	if err != nil || string(p.Value) != want {
		f.T.Errorf("%s is %q (%v), want %q", key, p.Value, err, want)
	}
}

// hashOf returns a replica's content hash.
func hashOf(t *testing.T, r replica.Replica) fsm.ContentHash {
	t.Helper()
	v, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h, err := v.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}
