package state_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
)

// TestLongReadsAreAskedToEnd: a long read is asked to end when it keeps storage
// from being reopened, and not before.
func TestLongReadsAreAskedToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("k", "1")
		asked := 0
		var view replica.View
		r.WhenHeldUp(func() {
			asked++
			view.Close()
		})
		fill := func() {
			t.Helper()
			r.FailWrites(storage.ErrNoSpace)
			if _, err := r.Propose(t.Context(), replicatest.Put("k", "2")); err == nil {
				t.Fatal("the write succeeded")
			}
			r.OnWrite(nil)
		}
		served := func() {
			t.Helper()
			time.Sleep(3 * state.ReopenInterval)
			synctest.Wait()
			if r.State() != replica.Serving {
				t.Fatalf("state %s", r.State())
			}
		}
		fill()
		served()
		if asked != 0 {
			t.Errorf("it was asked %d times without a reader", asked)
		}
		var err error
		if view, _, err = r.View(t.Context(), kv.ReadOptions{}); err != nil {
			t.Fatal(err)
		}
		fill()
		served()
		if asked != 1 {
			t.Errorf("it was asked %d times", asked)
		}
		r.MustPut("k", "3")
	})
}

// A reader that has stopped reading, as a stalled client's, keeps a failed replica from
// writing for a while, and not for ever: its next read is an error that says so.
func TestStalledReadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := replicatest.RunNode(t, replicatest.OnDisk)
		r.MustPut("a", "1")
		r.MustPut("b", "1")
		view, _, err := r.View(t.Context(), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		it := view.Iterate(storage.Range{})
		defer it.Close()
		if !it.Next() {
			t.Fatal(it.Err())
		}
		r.FailWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), replicatest.Put("c", "1")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.OnWrite(nil)
		time.Sleep(state.ViewPatience / 2)
		synctest.Wait()
		if r.State() != replica.Failed {
			t.Fatalf("state %s under a read that has just begun", r.State())
		}
		time.Sleep(state.ViewPatience)
		synctest.Wait()
		if r.State() != replica.Serving {
			t.Fatalf("state %s", r.State())
		}
		r.MustPut("c", "2")
		if p := it.Pair(); string(p.Key) != "a" {
			t.Errorf("the pair in hand is %q", p.Key)
		}
		if it.Next() {
			t.Error("the read goes on")
		}
		replicatest.WantError(t, replica.ReadError(it.Err()), kv.Unavailable, kv.NotApplied)
		if err := it.Err(); !errors.Is(err, fsm.ErrRevoked) {
			t.Errorf("it is told %q", err)
		}
	})
}
