package promotion_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// lent is a slave that has got the end of a log, at 12, for a promotion that was given up then.
func lent(t *testing.T, dir string) *world {
	t.Helper()
	w := newKeepers()
	w.keepers["k:2"].vBucket.Digest = 12
	w.others = map[string]*other{"t:1": {applied: 7, undone: true}}
	_, asked, _ := w.promote(t, dir, promotion.Request{With: []string{"t:1"}})
	if asked == nil || recordOf(t, dir) != nil || w.applied != 12 || w.slaveSeal != "" || len(w.stopped()) > 0 {
		t.Fatalf("%v, %+v, at %d, sealed by %q, stopped %v", asked, recordOf(t, dir), w.applied, w.slaveSeal, w.stopped())
	}
	return w
}

// The end of a log that was lent to a promotion which was given up may never be committed. A copy
// that has it is not taken for one that has what the masters have acknowledged since.
func TestLentEndIsNotTakenForTheMastersLog(t *testing.T) {
	for _, c := range []struct {
		name  string
		since func(*world)
		fits  bool
	}{
		{"the masters went on without it", func(w *world) { w.keepers, w.down, w.end = nil, nil, 99 }, false},
		{"they went on and are not sealed", func(w *world) {
			w.keepers["k:2"].down = unreachable
			w.keepers["k:3"].vBucket.Last, w.keepers["k:3"].vBucket.End, w.keepers["k:3"].vBucket.Digest = 11, 11, 99
		}, false},
		{"they have committed it", func(w *world) { w.keepers, w.down, w.written, w.end = nil, nil, 11, 12 }, true},
		{"they stop again", func(*world) {}, true},
		{"they do not say what they have", func(w *world) { w.keepers, w.down = nil, nil }, true},
	} {
		dir := t.TempDir()
		w := lent(t, dir)
		c.since(w)
		_, asked, ran := w.promote(t, dir, promotion.Request{})
		if c.fits {
			if asked != nil || !errors.Is(ran, promotion.ErrDecided) || recordOf(t, dir).Cuts["default"].End != 12 {
				t.Errorf("%s: %v, %v, %+v", c.name, asked, ran, recordOf(t, dir))
			}
			continue
		}
		if kv.KindOf(asked) != kv.Precondition || ran != nil || !strings.Contains(asked.Error(), "another last change than the log of the masters") {
			t.Errorf("%s: %v, %v", c.name, asked, ran)
		}
		if recordOf(t, dir) != nil && recordOf(t, dir).Step != promotion.Abandoning || w.masterSeal != "" || w.slaveSeal != "" {
			t.Errorf("%s: %+v, masters sealed by %q, slave by %q", c.name, recordOf(t, dir), w.masterSeal, w.slaveSeal)
		}
		_, asked, ran = w.promote(t, dir, promotion.Request{Force: true})
		if said := strings.Join(w.said, "\n"); asked != nil || !errors.Is(ran, promotion.ErrDecided) || w.keepers == nil && !strings.Contains(said, "forced although vBucket default of this slave") {
			t.Errorf("%s, by force: %v, %v, %s", c.name, asked, ran, said)
		}
	}
}

// So it is with a slave that becomes a master together with others, and has more than the founder.
func TestEachCopyOfASetIsPartOfTheMastersLog(t *testing.T) {
	w, dir := newSet(), t.TempDir()
	w.digest, w.end = 99, 99
	w.written, w.applied = 40, 39
	w.others["u:1"].digest = 77 // at 41, where the seal is
	_, asked, ran := w.promote(t, dir, with)
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "vBucket default of u:1 is at 41") || recordOf(t, dir) != nil {
		t.Errorf("%v, %v, %+v", asked, ran, recordOf(t, dir))
	}
	w.others["u:1"].digest = 99
	w.others["t:1"].digest = 99
	if _, asked, ran = w.promote(t, dir, with); asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Errorf("%v, %v", asked, ran)
	}
}
