package promotion_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// sealedBefore is a folder whose process has sealed a master at 10 and its copy, and ended then.
func sealedBefore(t *testing.T, step promotion.Step) (*world, string) {
	t.Helper()
	w, dir := &world{applied: 10, written: 10, masterSeal: "p", slaveSeal: "p"}, t.TempDir()
	r := promotion.Record{ID: "p", Step: step, Era: 1, History: "1-aa", Fence: "seal", Masters: []string{"m:1"},
		Cuts: map[string]promotion.Cut{"default": {Former: former, Seal: 10, End: 10}}}
	if step == promotion.Claiming {
		r.Claim = &promotion.Claim{Version: 4}
	}
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	return w, dir
}

// A founder that starts again does not decide on a seal that an operator has ended meanwhile:
// the master has acknowledged mutations since.
func TestSealThatWasEndedMeanwhileIsNoFence(t *testing.T) {
	for _, by := range []string{"", "q"} {
		w, dir := sealedBefore(t, promotion.Sealed)
		w.masterSeal, w.written = by, 20
		_, asked, ran := w.promote(t, dir, promotion.Request{Abandon: true})
		if ran != nil || asked == nil || !strings.Contains(asked.Error(), "none to abandon") {
			t.Fatalf("sealed by %q: %v, %v", by, asked, ran)
		}
		if recordOf(t, dir) != nil || w.slaveSeal != "" || w.masterSeal != by {
			t.Errorf("%+v, sealed by %q and %q", recordOf(t, dir), w.slaveSeal, w.masterSeal)
		}
	}
}

// A founder that starts again waits for masters that cannot confirm their seals. Force decides.
func TestSealThatNoMasterConfirms(t *testing.T) {
	w, dir := sealedBefore(t, promotion.Sealed)
	w.down = unreachable
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "whether the masters are still sealed is not known: m:1: connection refused") {
		t.Fatal(asked, ran)
	}
	if r := recordOf(t, dir); r == nil || r.Step != promotion.Sealed || w.slaveSeal != "p" {
		t.Fatalf("%+v, sealed by %q", r, w.slaveSeal)
	}
	w.down = nil
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: slog.New(slog.DiscardHandler)}, recordOf(t, dir))
	if ran := f.Run(t.Context()); !errors.Is(ran, promotion.ErrDecided) {
		t.Error(ran)
	}
	w, dir = sealedBefore(t, promotion.Sealed)
	w.down = unreachable
	if _, asked, ran := w.promote(t, dir, promotion.Request{Force: true}); asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Error(asked, ran)
	}
}

// The process that has sealed a master goes on if that is stopped then, as planned moves do.
func TestMasterThatStopsOnceItIsSealed(t *testing.T) {
	w, dir := &world{applied: 7, written: 9}, t.TempDir()
	w.stops = "seal slave"
	if _, asked, ran := w.promote(t, dir, promotion.Request{}); asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Error(asked, ran)
	}
}

// A claim that goes on says that the masters are fenced only if their seals have held.
func TestClaimAfterTheSealHasEnded(t *testing.T) {
	w, dir := sealedBefore(t, promotion.Claiming)
	w.masterSeal, w.written = "q", 20
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4}, verdicts: []promotion.Verdict{never}}
	claims := &fences{registry: w.registry}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Registry: claims, Log: slog.New(slog.DiscardHandler)}, recordOf(t, dir))
	running := make(chan error, 1)
	go func() { running <- f.Run(ctx) }()
	asked := f.Promote(ctx, promotion.Request{Abandon: true}, nil)
	end()
	if ran := <-running; ran != nil || asked == nil || claims.fenced || len(w.registry.ids) != 1 || w.slaveSeal != "" {
		t.Errorf("%v, %v, claimed %v as fenced: %v, sealed by %q", asked, ran, w.registry.ids, claims.fenced, w.slaveSeal)
	}
}

// fences notes whether a claim said that the masters are fenced.
type fences struct {
	*registry
	fenced bool
}

func (f *fences) Claim(ctx context.Context, c promotion.Claim, r promotion.Record) (promotion.Verdict, error) {
	f.fenced = f.fenced || r.Sealed()
	return f.registry.Claim(ctx, c, r)
}
