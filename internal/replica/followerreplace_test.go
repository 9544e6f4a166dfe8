package replica

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// The old state is read until the new one is whole.
func TestFollowerReplaceWhileReading(t *testing.T) {
	src, other := newRig(t), newRig(t)
	src.mustPut("a", "src")
	other.mustPut("a", "other")
	f := newFollowerRig(t, onDisk)
	f.mustReplace(src)
	view, _, err := f.Follower.View(t.Context(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	err = f.Replace(t.Context(), false, func(ctx context.Context, open func() (storage.Engine, error)) error {
		f.wantValue("a", "src")
		if s := f.Follower.Status(); s.State != Bootstrapping || s.Unreadable != nil {
			t.Errorf("status %+v", s)
		}
		return loadFrom(other)(ctx, open)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantValue("a", "other")
	if pairs, err := view.MultiGet([][]byte{[]byte("a")}); err != nil || len(pairs) != 1 || string(pairs[0].Value) != "src" {
		t.Errorf("the view that was taken before has %v, %v", pairs, err)
	}
	if got, want := f.Follower.Status().Identity, other.Status().Identity; got != want {
		t.Errorf("identity %v, want %v", got, want)
	}
}

func TestFollowerReplaceFails(t *testing.T) {
	src := newRig(t)
	src.mustPut("a", "1")
	for name, change := range map[string]change{"on disk": onDisk, "diskless": func(*rig) {}} {
		t.Run(name, func(t *testing.T) {
			f := newFollowerRig(t, change)
			cut := errors.New("cut")
			fails := func(_ context.Context, open func() (storage.Engine, error)) error {
				_, err := open()
				return errors.Join(cut, err)
			}
			if err := f.Replace(t.Context(), false, fails); !errors.Is(err, cut) {
				t.Error(err)
			}
			if s := f.Follower.Status(); s.State != Bootstrapping || f.Follower.Readable() {
				t.Errorf("status %+v", s)
			}
			f.mustReplace(src)
			if err := f.Replace(t.Context(), false, fails); !errors.Is(err, cut) {
				t.Error(err)
			}
			if s := f.Follower.State(); s != Serving {
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
			if err := f.Replace(t.Context(), false, none); !errors.Is(err, fsm.ErrBadSnapshot) {
				t.Error("a state of nothing was taken:", err)
			}
			f.wantValue("a", "1")
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
	src := newRig(t)
	src.mustPut("a", "1")
	old := newFollowerRig(t)
	old.mustReplace(src)
	src.mustPut("a", "2")
	f := newFollowerRig(t)
	f.mustReplace(src)
	f.Fresh(time.Now())
	if err := f.Replace(t.Context(), false, loadFrom(old.Follower)); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
	f.wantValue("a", "2")
	if err := f.Replace(t.Context(), true, loadFrom(old.Follower)); err != nil {
		t.Error(err)
	}
	f.wantValue("a", "1")
	if age := f.Follower.Age(); age < time.Hour {
		t.Errorf("of a log that has gone back, the age is %v", age)
	}
}

func TestFollowerIsFoundAgain(t *testing.T) {
	src := newRig(t)
	src.mustPut("a", "1")
	f := newFollowerRig(t, onDisk)
	f.mustReplace(src)
	f.again()
	f.wantValue("a", "1")
	src.mustPut("a", "2")
	f.mustFollow(src)
	f.again()
	f.wantValue("a", "2")
	if got, want := hashOf(t, f.Follower), hashOf(t, src); got != want {
		t.Errorf("hash %v, want %v", got, want)
	}
}

// What was begun when the process ended is gone when it starts again.
func TestFollowerCrashInReplace(t *testing.T) {
	src, other := newRig(t), newRig(t)
	src.mustPut("a", "1")
	f := newFollowerRig(t, onDisk)
	f.mustReplace(src)
	err := f.Replace(t.Context(), false, func(ctx context.Context, open func() (storage.Engine, error)) error {
		if err := loadFrom(other)(ctx, open); err != nil {
			return err
		}
		// As the process finds its folder that was killed here.
		g, err := f.dir.VBucket("default")
		if err != nil {
			return err
		}
		m, err := f.openAt(g.Current(), fsm.NewReplica)
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
	f.wantValue("a", "1")
}

func TestFollowerCloseEndsReplace(t *testing.T) {
	f := newFollowerRig(t)
	begun, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- f.Replace(context.Background(), false, func(ctx context.Context, _ func() (storage.Engine, error)) error {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-begun
	if err := f.Follower.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	default:
		t.Error("Close did not wait for it")
	}
	if err := f.Replace(context.Background(), false, nil); !errors.Is(err, errQueueClosed) {
		t.Error(err)
	}
}
