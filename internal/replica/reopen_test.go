package replica

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestLongReadsAreAskedToEnd: whoever reads for long is told when that keeps storage
// from being opened anew, and not before.
func TestLongReadsAreAskedToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, onDisk)
		r.mustPut("k", "1")
		asked := 0
		var view View
		r.WhenHeldUp(func() {
			asked++
			view.Close()
		})
		fill := func() {
			t.Helper()
			r.failWrites(storage.ErrNoSpace)
			if _, err := r.Propose(t.Context(), put("k", "2")); err == nil {
				t.Fatal("the write succeeded")
			}
			r.onWrite(nil)
		}
		served := func() {
			t.Helper()
			time.Sleep(3 * reopenInterval)
			synctest.Wait()
			if r.State() != Serving {
				t.Fatalf("state %s", r.State())
			}
		}
		fill()
		served()
		if asked != 0 {
			t.Errorf("it was asked %d times where nobody reads", asked)
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
		r.mustPut("k", "3")
	})
}

// A reader that has stopped reading, as a stalled client's, keeps a failed replica from
// writing for a while, and not for ever: its next read is an error that says so.
func TestStalledReadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, onDisk)
		r.mustPut("a", "1")
		r.mustPut("b", "1")
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
		r.failWrites(storage.ErrNoSpace)
		if _, err := r.Propose(t.Context(), put("c", "1")); err == nil {
			t.Fatal("the write succeeded")
		}
		r.onWrite(nil)
		time.Sleep(viewPatience / 2)
		synctest.Wait()
		if r.State() != Failed {
			t.Fatalf("state %s under a read that has just begun", r.State())
		}
		time.Sleep(viewPatience)
		synctest.Wait()
		if r.State() != Serving {
			t.Fatalf("state %s", r.State())
		}
		r.mustPut("c", "2")
		if p := it.Pair(); string(p.Key) != "a" {
			t.Errorf("the pair in hand is %q", p.Key)
		}
		if it.Next() {
			t.Error("the read goes on")
		}
		wantError(t, ReadError(it.Err()), kv.Unavailable, kv.NotApplied)
		if text := it.Err().Error(); !strings.Contains(text, "begin it again") {
			t.Errorf("it is told %q", text)
		}
	})
}

// The same where the log is several nodes'.
func TestRaftComesBackUnderAStalledRead(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) {
		c.options = func(_ *raftNode, o *RaftOptions) { o.ViewPatience = time.Nanosecond }
	})
	index := c.put("k", "v")
	full := c.follower()
	full.wantAt(index, "k", "v")
	view, _, err := full.View(t.Context(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	full.fault.Store(&errTestFull)
	if err := full.Snapshot(t.Context()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return full.State() == Failed })
	full.fault.Store(nil)
	testkit.Eventually(t, "the replica is back", func() bool { return full.State() == Serving })
	index = c.put("k", "w")
	full.wantAt(index, "k", "w")
	if _, err := view.MultiGet([][]byte{[]byte("k")}); err == nil {
		t.Error("the view goes on")
	}
}
