package promotion_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// registry has the record of the world's database.
type registry struct {
	*world
	record   *promotion.Claim
	verdicts []promotion.Verdict
	// lost is how many claims get no answer.
	lost int
	// changes is what the record becomes with the first claim.
	changes *promotion.Claim
	// silent: it answers no question for the record. asked is whether the master was sealed at
	// each, and paused for how long they have kept it sealed.
	silent bool
	asked  []bool
	paused time.Duration
	// claimed is called once, with the first claim.
	claimed func()
	// onLost is called once, with the first claim that gets no answer. given: the era was given
	// by the time a claim is withdrawn. withdrawn is how often one was.
	onLost    func()
	given     bool
	withdrawn int
	// sealed are the seals of the slave when a claim came, ids the promotions that claimed.
	sealed, ids []string
}

func (r *registry) Record(ctx context.Context) (*promotion.Claim, error) {
	if r.silent {
		r.asked = append(r.asked, r.masterSeal != "")
		began := time.Now()
		<-ctx.Done()
		if r.masterSeal != "" {
			r.paused += time.Since(began)
		}
		return nil, ctx.Err()
	}
	if r.record == nil {
		return nil, nil
	}
	out := *r.record
	return &out, nil
}

func (r *registry) Claim(_ context.Context, _ promotion.Claim, p promotion.Record) (promotion.Verdict, error) {
	r.sealed, r.ids = append(r.sealed, r.slaveSeal), append(r.ids, p.ID)
	if err := r.note("claim"); err != nil {
		return promotion.Verdict{}, err
	}
	if r.lost > 0 {
		r.lost--
		if r.onLost != nil {
			r.onLost()
			r.onLost = nil
		}
		return promotion.Verdict{}, errors.New("no answer")
	}
	if r.claimed != nil {
		r.claimed()
		r.claimed = nil
	}
	if r.changes != nil {
		r.record, r.changes = r.changes, nil
	}
	v := r.verdicts[0]
	r.verdicts = r.verdicts[1:]
	return v, nil
}

func (r *registry) Withdraw(context.Context, promotion.Claim, promotion.Record) (bool, error) {
	r.withdrawn++
	return r.given, nil
}

func lapsed(w *world, verdicts ...promotion.Verdict) *registry {
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4, Standby: true, Synced: true}, verdicts: verdicts}
	return w.registry
}

var (
	given = promotion.Verdict{Given: true}
	later = promotion.Verdict{Reason: "a master may hold a lease", Retry: time.Millisecond}
	never = promotion.Verdict{Reason: "the record has version 5"}
)

// A standby seals its copies before it claims, and no master; it repeats a claim that may be
// given later, or whose answer was lost.
func TestStandbyClaimsTheEra(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: errors.New("lost")}, t.TempDir()
	r := lapsed(w, later, later, given)
	r.lost = 1
	steps, asked, ran := w.promote(t, dir, promotion.Request{Standby: true})
	if asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Fatal(asked, ran)
	}
	want := []promotion.Step{promotion.Begun, promotion.Fenced, promotion.Sealed, promotion.Claiming, promotion.Decided}
	if !slices.Equal(steps, want) || slices.Contains(w.calls, "seal master") {
		t.Errorf("steps %v, calls %v", steps, w.calls)
	}
	id := recordOf(t, dir).ID
	if all := []string{id, id, id, id}; !slices.Equal(r.sealed, all) || !slices.Equal(r.ids, all) {
		t.Errorf("%v claimed while sealed by %v, want all %s", r.ids, r.sealed, id)
	}
}

// What an earlier promotion has sealed at nodes that are gone for good keeps no later one from being
// decided without force, which would not wait for the masters' leases. Without an operator it is not
// even waited for.
func TestNodesThatAreGoneHoldNoLaterPromotionUp(t *testing.T) {
	for _, standby := range []bool{false, true} {
		w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
		lapsed(w, given)
		left := promotion.Record{ID: "p", Step: promotion.Abandoning, Era: 1, History: "1-aa", Masters: []string{"m:1"}, Cuts: map[string]promotion.Cut{"default": {Former: former}}}
		if err := left.Write(dir); err != nil {
			t.Fatal(err)
		}
		w.slaveSeal = "p"
		_, asked, ran := w.promote(t, dir, promotion.Request{Standby: standby})
		if asked != nil || !errors.Is(ran, promotion.ErrDecided) {
			t.Fatal(asked, ran)
		}
		if r := recordOf(t, dir); r.Force || len(r.Earlier) != 1 || r.Earlier[0].ID != "p" || !slices.Equal(r.Earlier[0].Masters, left.Masters) {
			t.Errorf("%+v", r)
		}
		again := slices.Contains(w.calls[1+slices.Index(w.calls, "unseal master"):], "unseal master") // beside the try at the start
		if again == standby {
			t.Errorf("standby %v: %v", standby, w.calls)
		}
	}
}

// A standby whose claim never will be given follows its masters again, and seals none.
func TestRejectedClaimEndsTheSeal(t *testing.T) {
	w, dir := &world{applied: 7, written: 9}, t.TempDir()
	lapsed(w, later, never)
	_, asked, ran := w.promote(t, dir, promotion.Request{Standby: true})
	if asked == nil || !strings.Contains(asked.Error(), never.Reason) || ran != nil {
		t.Fatal(asked, ran)
	}
	if w.slaveSeal != "" || slices.Contains(w.calls, "seal master") || recordOf(t, dir) != nil {
		t.Errorf("sealed by %q after %v, %+v", w.slaveSeal, w.calls, recordOf(t, dir))
	}
}

// A claim goes on after a crash under the same promotion, and without the seal ending: it may
// have been given.
func TestClaimGoesOnAfterACrash(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, crash: "claim"}, t.TempDir()
	r := lapsed(w, given)
	_, asked, _ := w.promote(t, dir, promotion.Request{Standby: true})
	if asked == nil {
		t.Fatal("the process has not crashed")
	}
	if left := recordOf(t, dir); left == nil || left.Step != promotion.Claiming || w.slaveSeal != left.ID {
		t.Fatalf("%+v, sealed by %q", left, w.slaveSeal)
	}
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Registry: r, Log: slog.New(slog.DiscardHandler)}, recordOf(t, dir))
	if ran := f.Run(t.Context()); !errors.Is(ran, promotion.ErrDecided) || r.ids[0] != r.ids[1] || slices.Contains(w.calls, "unseal slave") {
		t.Errorf("%v, %v, %v", ran, r.ids, w.calls)
	}
}

// An operator's promotion claims too: of masters that are sealed, by force also of a record that
// has changed since, or by the record if they cannot be. Without either it is rejected.
func TestOperatorsPromotionClaims(t *testing.T) {
	w, dir := &world{applied: 7, written: 9}, t.TempDir()
	lapsed(w, never, given).record.Standby = false
	w.registry.changes = &promotion.Claim{Version: 5}
	if _, asked, _ := w.promote(t, dir, promotion.Request{Force: true}); asked != nil || !recordOf(t, dir).Sealed() || recordOf(t, dir).Claim.Version != 5 {
		t.Errorf("%v, %+v", asked, recordOf(t, dir))
	}
	w, dir = &world{applied: 7, written: 9, down: errors.New("lost")}, t.TempDir()
	lapsed(w, given)
	if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked != nil || recordOf(t, dir).Sealed() {
		t.Errorf("%v, %+v", asked, recordOf(t, dir))
	}
	w, dir = &world{applied: 7, written: 9, down: errors.New("lost")}, t.TempDir()
	lapsed(w).record.Standby = false
	if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked == nil || !strings.Contains(asked.Error(), "cannot be sealed") {
		t.Error(asked)
	}
}

// What masters have acknowledged at semi_sync may be missing on a standby. An operator has to
// force that; without one the standby takes over, and says so.
func TestStandbyThatMayLackSomething(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	lapsed(w).record.Synced = false
	_, asked, _ := w.promote(t, dir, promotion.Request{})
	if asked == nil || !strings.Contains(asked.Error(), "may be missing here; ") || !strings.Contains(asked.Error(), "at least 2 changes are missing") || !strings.Contains(asked.Error(), "-force") || w.slaveSeal != "" {
		t.Errorf("%v, sealed by %q", asked, w.slaveSeal)
	}
	w, dir = &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	lapsed(w, given).record.Synced = false
	if _, asked, _ := w.promote(t, dir, promotion.Request{Standby: true}); asked != nil || !recordOf(t, dir).Unsynced {
		t.Errorf("%v, %+v", asked, recordOf(t, dir))
	}
}

// Masters that need the lease of the record are not replaced without a claim of it, even if they
// are sealed: a standby of the record may claim the same era. They serve on.
func TestLeasedMastersAreReplacedByClaimOnly(t *testing.T) {
	for want, asks := range map[string]bool{"set discovery-service-addr": false, "has no record": true} {
		w, dir := &world{applied: 7, written: 9, leased: true}, t.TempDir()
		if asks {
			lapsed(w).record = nil
		}
		_, asked, ran := w.promote(t, dir, promotion.Request{Planned: true})
		if asked == nil || !strings.Contains(asked.Error(), want) || ran != nil {
			t.Errorf("%v, %v; want %q", asked, ran, want)
		}
		if recordOf(t, dir) != nil || w.masterSeal != "" || w.slaveSeal != "" {
			t.Errorf("%+v, sealed by %q and %q", recordOf(t, dir), w.masterSeal, w.slaveSeal)
		}
		if _, asked, _ := w.promote(t, t.TempDir(), promotion.Request{Force: true}); asked != nil {
			t.Error(asked)
		}
	}
}

// A record that is lost after the registry has fenced the masters is not given up for none.
func TestFenceOfALostRecord(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, slaveSeal: "p"}, t.TempDir()
	lapsed(w).record = nil
	sealed := promotion.Record{ID: "p", Step: promotion.Sealed, Era: 1, History: "1-aa", Fence: "record", Standby: true, Cuts: map[string]promotion.Cut{"default": {Former: former, End: 7}}}
	if err := sealed.Write(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, ran := w.promote(t, dir, promotion.Request{Abandon: true}); ran != nil || recordOf(t, dir) != nil || w.slaveSeal != "" {
		t.Errorf("%v, %+v, sealed by %q", ran, recordOf(t, dir), w.slaveSeal)
	}
}

// A forced promotion of a copy that has not heard of the record's era goes above it: that era has
// masters already.
func TestForceGoesAboveTheRecord(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	lapsed(w, given).record = &promotion.Claim{Era: 4, Version: 9}
	_, asked, ran := w.promote(t, dir, promotion.Request{Force: true})
	r := recordOf(t, dir)
	if asked != nil || !errors.Is(ran, promotion.ErrDecided) || r.Era != 5 || era.Of(r.History) != 5 || r.Claim.Era != 4 {
		t.Errorf("%v, %v, %+v", asked, ran, r)
	}
}

// A promotion whose era is given goes on by itself when it can be written down again: nothing
// else calls the founder, since its copy is of the era before.
func TestGivenEraThatCannotBeWrittenDown(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, filepath.Join(t.TempDir(), "db")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := lapsed(w, given, given)
	r.claimed = func() {
		if err := os.Rename(dir, dir+"-away"); err != nil {
			t.Error(err)
		}
	}
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Registry: r, Log: slog.New(slog.DiscardHandler)}, nil)
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	running := make(chan error, 1)
	go func() { running <- f.Run(ctx) }()
	if err := f.Promote(ctx, promotion.Request{Standby: true}, nil); err == nil {
		t.Error("it is decided, but not written down")
	}
	if err := os.Rename(dir+"-away", dir); err != nil {
		t.Fatal(err)
	}
	if err := <-running; !errors.Is(err, promotion.ErrDecided) || len(r.ids) != 2 || r.ids[0] != r.ids[1] {
		t.Errorf("%v, claims of %v", err, r.ids)
	}
}

// A planned promotion that is forced while its claim is under way is planned no more: the former
// masters do not set their data aside at once.
func TestPlannedPromotionThatIsForced(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, leased: true}, t.TempDir()
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4}, verdicts: []promotion.Verdict{{Reason: "later", Retry: time.Hour}, given}}
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Registry: w.registry, Log: slog.New(slog.DiscardHandler)}, nil)
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	running := make(chan error, 1)
	go func() { running <- f.Run(ctx) }()
	planned := make(chan error, 1)
	claiming := make(chan struct{})
	go func() {
		planned <- f.Promote(ctx, promotion.Request{Planned: true}, func(p promotion.Progress) error {
			if p.Step == promotion.Claiming {
				close(claiming)
			}
			return nil
		})
	}()
	<-claiming
	_ = f.Promote(ctx, promotion.Request{Force: true}, nil) // what it returns only says that it goes on
	if err := <-running; !errors.Is(err, promotion.ErrDecided) {
		t.Fatal(err)
	}
	if r := recordOf(t, dir); r.Planned || !r.Force || <-planned != nil {
		t.Errorf("%+v", r)
	}
}

// Who wants to give a promotion up, also by force, does not have it decided without the registry. It
// goes on as it was.
func TestAbandoningByForceDecidesNothing(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, leased: true}, t.TempDir()
	w.registry = &registry{world: w, record: &promotion.Claim{Version: 4}, verdicts: []promotion.Verdict{{Reason: "later", Retry: time.Hour}}, lost: 1 << 20}
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Registry: w.registry, Log: slog.New(slog.DiscardHandler)}, nil)
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	running := make(chan error, 1)
	go func() { running <- f.Run(ctx) }()
	claiming := make(chan struct{})
	go func() {
		_ = f.Promote(ctx, promotion.Request{}, func(p promotion.Progress) error {
			if p.Step == promotion.Claiming {
				close(claiming)
			}
			return nil
		})
	}()
	<-claiming
	err := f.Promote(ctx, promotion.Request{Abandon: true, Force: true}, nil)
	if kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), "only its answer ends that") {
		t.Error(err)
	}
	end()
	if err := <-running; err != nil {
		t.Error(err)
	}
	if r := recordOf(t, dir); r.Step != promotion.Claiming || r.Force {
		t.Errorf("%+v", r)
	}
}

// A registry that does not answer keeps masters that need no lease sealed only briefly: it is
// asked before they are sealed.
func TestSilentRegistryPausesWritesBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{applied: 7, written: 9}
		r := lapsed(w)
		r.silent = true
		_, asked, ran := w.promote(t, t.TempDir(), promotion.Request{Planned: true})
		if asked != nil || !errors.Is(ran, promotion.ErrDecided) || !slices.Equal(r.asked, []bool{false, true}) || r.paused > time.Second {
			t.Errorf("%v, %v, asked %v, sealed for %v", asked, ran, r.asked, r.paused)
		}
	})
}
