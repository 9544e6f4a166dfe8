package promotion_test

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// A promotion waits while the slave has not applied what it has confirmed as received, and loses
// nothing of it.
func TestPromotionWaitsForWhatWasConfirmed(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable, stalls: 2}, t.TempDir()
	lapsed(w, given).record.Synced = false
	if _, asked, _ := w.promote(t, dir, promotion.Request{Standby: true}); asked != nil || w.stalls != 0 || w.slaveSeal == "" {
		t.Errorf("%v, sealed by %q after all but %d stalls", asked, w.slaveSeal, w.stalls)
	}
	if said := strings.Join(w.said, "\n"); strings.Contains(said, "LOST") {
		t.Error(said)
	}
}

// What a failed disk has lost of what was confirmed does not keep a standby from taking over, and
// the promotion says it.
func TestPromotionSaysWhatAFailedDiskHasLost(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable, confirmed: 9}, t.TempDir()
	lapsed(w, given).record.Synced = false
	_, asked, _ := w.promote(t, dir, promotion.Request{Standby: true})
	if said := strings.Join(w.said, "\n"); asked != nil || !strings.Contains(said, "up to 2 changes that were confirmed to the masters as received are LOST") {
		t.Errorf("%v, %s", asked, said)
	}
	// Sealed masters say themselves up to where they have acknowledged anything.
	w, dir = &world{applied: 9, written: 9, confirmed: 12}, t.TempDir()
	_, asked, _ = w.promote(t, dir, promotion.Request{})
	if said := strings.Join(w.said, "\n"); asked != nil || strings.Contains(said, "LOST") {
		t.Errorf("%v, %s", asked, said)
	}
}
