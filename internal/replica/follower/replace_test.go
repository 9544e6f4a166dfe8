package follower

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
)

// The old state is read until the new one is whole.
func TestFollowerReplaceWhileReading(t *testing.T) {
	src, other := replicatest.RunNode(t), replicatest.RunNode(t)
	src.MustPut("a", "src")
	other.MustPut("a", "other")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	view, _, err := f.Replica.View(t.Context(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	err = f.Replace(t.Context(), false, func(ctx context.Context, open func() (storage.Engine, error)) error {
		f.WantValue("a", "src")
		if s := f.Replica.Status(); s.State != replica.Bootstrapping || s.Unreadable != nil {
			t.Errorf("status %+v", s)
		}
		return loadFrom(other)(ctx, open)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.WantValue("a", "other")
	if pairs, err := view.MultiGet([][]byte{[]byte("a")}); err != nil || len(pairs) != 1 || string(pairs[0].Value) != "src" {
		t.Errorf("the view that was taken before has %v, %v", pairs, err)
	}
	if got, want := f.Replica.Status().Identity, other.Status().Identity; got != want {
		t.Errorf("identity %v, want %v", got, want)
	}
}

func TestFollowerReplaceFails(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	for name, change := range map[string]replicatest.Change{"on disk": replicatest.OnDisk, "diskless": func(*replicatest.Rig) {}} {
		t.Run(name, func(t *testing.T) {
			f := newRig(t, change)
			cut := errors.New("cut")
			fails := func(_ context.Context, open func() (storage.Engine, error)) error {
				_, err := open()
				return errors.Join(cut, err)
			}
			if err := f.Replace(t.Context(), false, fails); !errors.Is(err, cut) {
				t.Error(err)
			}
			if s := f.Replica.Status(); s.State != replica.Bootstrapping || f.Replica.Readable() {
				t.Errorf("status %+v", s)
			}
			f.mustReplace(src)
			if err := f.Replace(t.Context(), false, fails); !errors.Is(err, cut) {
				t.Error(err)
			}
			if s := f.Replica.State(); s != replica.Serving {
				t.Errorf("state %s", s)
			}
			// A part of a state is none.
			part := func(ctx context.Context, open func() (storage.Engine, error)) error {
				return loadFrom(src)(ctx, func() (storage.Engine, error) {
					e, err := open()
					return halfEngine{e}, err
				})
			}
			if err := f.Replace(t.Context(), false, part); err == nil {
				t.Error("a state without an identity was taken")
			}
			none := func(context.Context, func() (storage.Engine, error)) error { return nil }
			if err := f.Replace(t.Context(), false, none); !errors.Is(err, chunks.ErrBadSnapshot) {
				t.Error("a state of nothing was taken:", err)
			}
			f.WantValue("a", "1")
		})
	}
}

// halfEngine loses the writes that are synced, which is how a load ends.
type halfEngine struct{ storage.Engine }

func (e halfEngine) Write(b *storage.Batch, sync bool) error {
	if sync {
		return nil
	}
	return e.Engine.Write(b, sync)
}

// A state of the same history that is older would take reads back.
func TestFollowerReplaceByOlder(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	old := newRig(t)
	old.mustReplace(src)
	src.MustPut("a", "2")
	f := newRig(t)
	f.mustReplace(src)
	f.Fresh(time.Now())
	if err := f.Replace(t.Context(), false, loadFrom(old.Replica)); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	f.WantValue("a", "2")
	if err := f.Replace(t.Context(), true, loadFrom(old.Replica)); err != nil {
		t.Error(err)
	}
	f.WantValue("a", "1")
	if age := f.Replica.Age(); age < time.Hour {
		t.Errorf("of a log that has gone back, the age is %v", age)
	}
}

func TestFollowerIsFoundAgain(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	f.again()
	f.WantValue("a", "1")
	src.MustPut("a", "2")
	f.mustFollow(src)
	f.again()
	f.WantValue("a", "2")
	if got, want := hashOf(t, f.Replica), hashOf(t, src); got != want {
		t.Errorf("hash %v, want %v", got, want)
	}
}

// What was begun when the process ended is gone when it starts again.
func TestFollowerCrashInReplace(t *testing.T) {
	src, other := replicatest.RunNode(t), replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	err := f.Replace(t.Context(), false, func(ctx context.Context, open func() (storage.Engine, error)) error {
		if err := loadFrom(other)(ctx, open); err != nil {
			return err
		}
		// As the process finds its folder that was killed here.
		g, err := f.Dir.VBucket("default")
		if err != nil {
			return err
		}
		m, err := f.state.OpenAt(g.Current(), fsm.NewReplica)
		if err != nil {
			return err
		}
		defer m.Close()
		if got := m.Identity(); got != src.Status().Identity {
			t.Errorf("identity %v", got)
		}
		return errors.New("killed")
	})
	if err == nil {
		t.Fatal("it was replaced")
	}
	f.again()
	f.WantValue("a", "1")
}

func TestFollowerCloseEndsReplace(t *testing.T) {
	f := newRig(t)
	begun, ended, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- f.Replace(context.Background(), false, func(ctx context.Context, _ func() (storage.Engine, error)) error {
			close(begun)
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		})
	}()
	<-begun
	if err := f.Replica.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for it")
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := f.Replace(context.Background(), false, nil); !errors.Is(err, replica.ErrClosed) {
		t.Error(err)
	}
}
