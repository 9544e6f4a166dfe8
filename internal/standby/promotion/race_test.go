package promotion_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// A node whose own promotion was given up becomes a master by that of another node all the same,
// although a master that is gone for good may be sealed by its own. The new masters end those seals.
func TestNodeWithAPromotionThatWasGivenUpBecomesAMaster(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))}, t.TempDir()
	if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked == nil {
		t.Fatal("it was promoted")
	}
	own := recordOf(t, dir)
	if own == nil || own.Step != promotion.Abandoning {
		t.Fatalf("%+v", own)
	}
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: discard}, own)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	decided := promotion.Record{ID: "theirs", Step: promotion.Decided, Era: 1, Replica: 2}
	if err := f.Become(t.Context(), decided, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	r := recordOf(t, dir)
	if err := <-ran; !errors.Is(err, promotion.ErrDecided) || r.ID != "theirs" || len(r.Earlier) != 1 || r.Earlier[0].ID != own.ID || !slices.Equal(r.Earlier[0].Masters, own.Masters) {
		t.Errorf("%v, %+v", err, r)
	}
}

// Two vBuckets have owners of their own. What one of them was sealed at need not be here if the other
// one is lost and the registry fences both: the masters have acknowledged nothing without this slave.
func TestSealOfSomeVBucketsDoesNotBindTheRecord(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, cut: true}, t.TempDir()
	registry := lapsed(w, given)
	opts := promotion.Options{Dir: dir, Copies: twoVBuckets{w}, Masters: master{w}, Set: slaves{w}, Registry: registry, Log: discard}
	f := promotion.NewFounder(opts, nil)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	if err := f.Promote(t.Context(), promotion.Request{}, nil); err != nil {
		t.Fatal(err)
	}
	r := recordOf(t, dir)
	if err := <-ran; !errors.Is(err, promotion.ErrDecided) || r.Fence != "record" || r.Cuts["default"] != (promotion.Cut{Former: former, End: 7}) || w.masterSeal == "" {
		t.Errorf("%v, %+v, master sealed by %q", err, r, w.masterSeal)
	}
}

// twoVBuckets is the world with another vBucket, whose owner is lost.
type twoVBuckets struct{ *world }

func and(p []promotion.Position) []promotion.Position {
	other := p[0]
	other.VBucket = "other"
	return append(p, other)
}

func (w twoVBuckets) Positions() []promotion.Position { return and(w.world.Positions()) }

func (w twoVBuckets) Reached(ctx context.Context) ([]promotion.Position, error) {
	p, err := w.world.Reached(ctx)
	return and(p), err
}
