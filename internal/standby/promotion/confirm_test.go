package promotion_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

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

// A standby that has sealed masters which are lost for good then takes over by the record, also if
// its claim was sent already and did not fit: but not if the promotion is a planned one, nor if the
// record does not let it.
func TestStandbyGoesFromSealsToTheRecord(t *testing.T) {
	for _, c := range []struct {
		step                     promotion.Step
		version                  uint64
		planned, standby, synced bool
		want                     bool
	}{
		{promotion.Sealed, 4, false, true, true, true},
		{promotion.Claiming, 4, false, true, true, true},
		{promotion.Claiming, 6, false, true, true, true},
		{promotion.Claiming, 4, true, true, true, false},
		{promotion.Claiming, 4, false, false, false, false},
		{promotion.Claiming, 4, false, true, false, false},
	} {
		w, dir := sealedBefore(t, c.step)
		w.down = unreachable
		r := lapsed(w, later, given)
		r.record.Version, r.record.Standby, r.record.Synced = c.version, c.standby, c.synced
		before := recordOf(t, dir)
		before.Planned, before.Claim = c.planned, &promotion.Claim{Version: 4}
		ctx, end := context.WithTimeout(t.Context(), time.Minute)
		f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Registry: r, Log: slog.New(slog.DiscardHandler)}, before)
		ran := make(chan error, 1)
		go func() { ran <- f.Run(ctx) }()
		if !c.want { // the start has been tried when it answers
			if err := f.Promote(ctx, promotion.Request{Abandon: true}, nil); err == nil {
				t.Errorf("%+v: a claim was given up", c)
			}
			end()
		}
		err, p := <-ran, recordOf(t, dir)
		end()
		if errors.Is(err, promotion.ErrDecided) != c.want || p.Sealed() == c.want || c.want && p.Claim.Version != c.version || !c.want && r.ids != nil {
			t.Errorf("%+v: %v, claimed %v, %+v", c, err, r.ids, p)
		}
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

// A founder that still counts on its seals does not claim the era after a record that has changed
// since before the fence: who ends the seals by hand changes it first.
func TestSealsFenceTheRecordBeforeThemOnly(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, leased: true, stops: "seal slave"}, t.TempDir()
	r := lapsed(w, given)
	w.then = func() { r.record = &promotion.Claim{Version: 5} }
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "has changed since before the masters were sealed") || r.ids != nil || w.slaveSeal != "" {
		t.Errorf("%v, %v, claimed %v, sealed by %q", asked, ran, r.ids, w.slaveSeal)
	}
}

// A claim that was rejected since the record has changed is not repeated for the record as it is
// then, even if the masters have confirmed their seals meanwhile: they may be ending.
func TestSealsFenceNoLaterRecord(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, leased: true}, t.TempDir()
	r := lapsed(w, never, given)
	r.changes = &promotion.Claim{Version: 5}
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), never.Reason) || len(r.ids) != 1 || w.slaveSeal != "" || w.masterSeal != "" {
		t.Errorf("%v, %v, claimed %v, sealed by %q and %q", asked, ran, r.ids, w.slaveSeal, w.masterSeal)
	}
}

// A claim that goes on after the masters were unsealed is withdrawn, since it says that they are
// fenced: it is not repeated, and the slave follows them again.
func TestClaimIsWithdrawnOnceSealsHaveEnded(t *testing.T) {
	w, dir := sealedBefore(t, promotion.Claiming)
	w.masterSeal, w.written = "q", 20
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4}, verdicts: []promotion.Verdict{given}}
	_, asked, ran := w.promote(t, dir, promotion.Request{Abandon: true})
	if ran != nil || asked == nil || w.registry.ids != nil || w.registry.withdrawn != 1 || w.slaveSeal != "" {
		t.Errorf("%v, %v, claimed %v, withdrawn %d times, sealed by %q", asked, ran, w.registry.ids, w.registry.withdrawn, w.slaveSeal)
	}
}

// What the registry has given cannot be withdrawn: the promotion is decided.
func TestGivenClaimIsNotWithdrawn(t *testing.T) {
	w, dir := sealedBefore(t, promotion.Claiming)
	w.masterSeal, w.written = "q", 20
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4}, given: true, verdicts: []promotion.Verdict{given}}
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Registry: w.registry, Log: slog.New(slog.DiscardHandler)}, recordOf(t, dir))
	if ran := f.Run(ctx); !errors.Is(ran, promotion.ErrDecided) {
		t.Error(ran)
	}
}

// A founder whose claim gets no answer for long asks the masters before each repetition: they may
// have been unsealed while it waited.
func TestSealsAreConfirmedBeforeEachClaim(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, leased: true}, t.TempDir()
	r := lapsed(w, given)
	r.lost = 3
	r.onLost = func() { w.masterSeal, w.written = "", 20 }
	_, asked, ran := w.promote(t, dir, promotion.Request{Planned: true})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "not sealed by this promotion any more") && !strings.Contains(asked.Error(), "was ended") {
		t.Errorf("%v, %v", asked, ran)
	}
	if len(r.ids) != 1 || r.withdrawn != 1 || w.slaveSeal != "" || recordOf(t, dir) != nil {
		t.Errorf("claimed %v, withdrawn %d times, sealed by %q, %+v", r.ids, r.withdrawn, w.slaveSeal, recordOf(t, dir))
	}
}

// A planned promotion loses nothing, so the registry's fence does not do: without a master that
// can be sealed it is rejected, even to a standby of the record.
func TestPlannedPromotionIsFencedBySealOnly(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	r := lapsed(w, given)
	_, asked, ran := w.promote(t, dir, promotion.Request{Planned: true})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "a planned promotion needs that") || r.ids != nil {
		t.Errorf("%v, %v, claimed %v", asked, ran, r.ids)
	}
}
