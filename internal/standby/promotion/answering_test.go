package promotion_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// TestASlaveThatHangsKeepsNoMasterSealed: whatever a node of the set is asked for when it stops answering, masters
// serve again after seconds.
func TestASlaveThatHangsKeepsNoMasterSealed(t *testing.T) {
	for _, call := range []string{"serve changes", "catch up other", "take requests"} {
		t.Run(call, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := newSet()
				w.others["u:1"].applied = 45 // all others have to catch up
				hangs := "u:1"
				if call == "catch up other" {
					hangs = "t:1"
				}
				w.others[hangs].hangs = call
				began := time.Now()
				_, asked, _ := w.promote(t, dir, promotion.Request{With: with.With, Planned: true})
				if asked == nil || !strings.Contains(asked.Error(), hangs+" has not answered for") {
					t.Error(asked)
				}
				if took := w.unsealed.Sub(began); w.masterSeal != "" || took > 8*time.Second {
					t.Errorf("the master is sealed by %q, for %s", w.masterSeal, took)
				}
			})
		})
	}
}

// TestASlowSlaveIsAwaited: one that answers has its time.
func TestASlowSlaveIsAwaited(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newSet()
		w.cut, w.written = true, 39
		w.others["t:1"].slow = 40 * time.Second
		if _, asked, _ := w.promote(t, dir, with); asked != nil {
			t.Fatal(asked)
		}
		wantSet(t, w, recordOf(t, dir), 41)
	})
}
