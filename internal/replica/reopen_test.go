package replica

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
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
