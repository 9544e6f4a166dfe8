package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestExpiredKeysLeaveTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Keys expire at whole seconds. Expired ones are looked for between these, so that
		// both do not happen at once.
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + state.ExpireInterval/2)))
		r := replicatest.RunNode(t)
		end := time.Now().Truncate(time.Second).Add(10 * time.Second)
		const n = state.ExpireBatch + 10 // more than one command
		for i := range n {
			r.MustPropose(replicatest.PutUntil(fmt.Sprint("k", i), "v", end))
		}
		r.MustPut("stays", "v")
		time.Sleep(time.Until(end) - time.Millisecond)
		r.WantValue("k0", "v")
		time.Sleep(time.Millisecond)
		r.WantValue("k0", "") // hidden at once
		if got := r.Usage().Storage.EstimatedKeys; got != n+1 {
			t.Fatalf("%d keys are stored", got)
		}
		time.Sleep(state.ExpireInterval)
		synctest.Wait()
		s, stored := r.Status(), r.Usage().Storage.EstimatedKeys
		if stored != 1 || s.ExpiredTotal != n || s.Applied != n+1+2 {
			t.Errorf("%d keys are stored, %d expired, index %d", stored, s.ExpiredTotal, s.Applied)
		}
		changes, err := r.Changes(t.Context(), n+2, 0, 1<<20)
		if err != nil || len(changes.Changes) != 2 {
			t.Fatalf("changes %+v, %v", changes, err)
		}
		deletes := 0
		for _, c := range changes.Changes {
			for _, m := range c.Mutations {
				if m.Delete {
					deletes++
				}
			}
		}
		if deletes != n {
			t.Errorf("%d deletes in the change stream, want %d", deletes, n)
		}
	})
}

// TestLongKeysExpireToo: many long keys that end in one second take several commands, none of which
// is larger than what a client may ask for. In one they would be too much for the engine, for ever.
func TestLongKeysExpireToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + state.ExpireInterval/2)))
		const n = state.ExpireBatch + 10
		r := replicatest.RunNode(t, func(r *replicatest.Rig) { r.BatchLimit = storage.BatchLimit{Bytes: 11 << 20, Ops: 120_000} })
		end := time.Now().Truncate(time.Second).Add(10 * time.Second)
		for i := range n {
			r.MustPropose(replicatest.PutUntil(fmt.Sprintf("%04d%s", i, strings.Repeat("k", 4<<10)), "v", end))
		}
		time.Sleep(time.Until(end) + state.ExpireInterval)
		synctest.Wait()
		if got := r.Status().ExpiredTotal; got != n {
			t.Errorf("%d of %d keys have expired", got, n)
		}
		changes, err := r.Changes(t.Context(), n+1, 0, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes.Changes {
			bytes := 0
			for _, m := range c.Mutations {
				bytes += len(m.Key)
			}
			if bytes > 2<<20 {
				t.Errorf("change %d has keys of %d bytes", c.Index, bytes)
			}
		}
	})
}

func TestNothingExpiresDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t)
		r.MustPropose(replicatest.PutUntil("k", "v", time.Now().Add(time.Second)))
		r.MustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
		time.Sleep(time.Minute)
		r.WantValue("k", "")
		if got := r.Status().ExpiredTotal; got != 0 {
			t.Errorf("%d keys were removed", got)
		}
		r.MustPropose(&command.Command{Kind: command.SetPaused})
		time.Sleep(state.ExpireInterval)
		synctest.Wait()
		if got := r.Status().ExpiredTotal; got != 1 {
			t.Errorf("%d keys were removed after the pause, want 1", got)
		}
	})
}

func TestChangelogIsTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, func(r *replicatest.Rig) { r.Opts.Retention = changelog.Retention{MaxAge: time.Hour} })
		r.MustPut("old", "v")
		time.Sleep(2 * time.Hour)
		r.MustPut("new", "v")
		time.Sleep(state.TrimInterval)
		synctest.Wait()
		if got := r.Status().ChangelogFloor; got != 2 {
			t.Errorf("floor %d, want 2", got)
		}
		_, err := r.Changes(t.Context(), 1, 0, 1<<20)
		replicatest.WantError(t, err, kv.OutOfRange, kv.NotApplied)
		changes, err := r.Changes(t.Context(), 2, 0, 1<<20)
		if err != nil || len(changes.Changes) != 1 {
			t.Errorf("changes %+v, %v", changes, err)
		}
	})
}

// TestFailedTrimEndsMutations: a failed write ends mutations, even if no client asked for it.
func TestFailedTrimEndsMutations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("input/output error")
		var fails atomic.Bool
		r := replicatest.RunNode(t, func(r *replicatest.Rig) {
			r.Opts.Retention = changelog.Retention{MaxAge: time.Hour}
			open := r.Opts.Open
			r.Opts.Open = func(dir string) (storage.Engine, error) {
				e, err := open(dir)
				return failingUnsynced{e, &fails, broken}, err
			}
		})
		r.MustPut("old", "v")
		time.Sleep(2 * time.Hour)
		r.MustPut("new", "v")
		fails.Store(true)
		time.Sleep(state.TrimInterval)
		synctest.Wait()
		if s := r.Status(); s.State != replica.Failed || !errors.Is(s.Err, broken) || s.ChangelogFloor != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// failingUnsynced fails the writes that are not synced.
type failingUnsynced struct {
	storage.Engine
	fails *atomic.Bool
	err   error
}

func (e failingUnsynced) Write(b *storage.Batch, sync bool) error {
	if !sync && e.fails.Load() {
		return e.err
	}
	return e.Engine.Write(b, sync)
}

// handClock is a wall clock that a test sets.
type handClock struct{ now atomic.Int64 }

func (c *handClock) set(t time.Time)           { c.now.Store(t.UnixMilli()) }
func (c *handClock) Now() time.Time            { return time.UnixMilli(c.now.Load()) }
func (c *handClock) option(r *replicatest.Rig) { r.Opts.Clock = replicatest.WallClock(c.Now) }
func at(seconds int64) time.Time               { return time.Unix(1_000_000+seconds, 0) }
func clockAt(t time.Time) *handClock           { c := &handClock{}; c.set(t); return c }
func casAbsent(k, v string) *command.Command {
	c := replicatest.Put(k, v)
	c.Kind = command.CompareAndSet
	return c
}

// TestClockNeverGoesBack lets a key expire for a reader, then sets the wall
// clock back.
func TestClockNeverGoesBack(t *testing.T) {
	c := clockAt(at(0))
	r := replicatest.RunNode(t, c.option)
	r.MustPropose(replicatest.PutUntil("k", "v", at(10)))
	r.WantValue("k", "v")
	c.set(at(11))
	r.WantValue("k", "")
	c.set(at(5))
	r.WantValue("k", "")
	view, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := replicatest.Keys(t, view); len(got) != 0 {
		t.Errorf("a view shows %q", got)
	}
	view.Close()
	// And the log follows the readers: for it too the key is absent.
	if res := r.MustPropose(casAbsent("k", "again")); res.Code != command.OK {
		t.Errorf("create-if-absent of a key that reads as absent: %v", res.Code)
	}
	r.WantValue("k", "again")
}

// TestLogClockHidesFromReads: what the log has expired no reader sees, though
// the wall clock went back in between and the process was started again.
func TestLogClockHidesFromReads(t *testing.T) {
	c := clockAt(at(0))
	r := replicatest.RunNode(t, replicatest.OnDisk, c.option)
	r.MustPropose(replicatest.PutUntil("k", "v", at(10)))
	c.set(at(11))
	r.MustPut("other", "v")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	c.set(at(5))
	again := replicatest.RunNode(t, replicatest.InFolderOf(r.Rig), c.option)
	again.WantValue("k", "")
}
