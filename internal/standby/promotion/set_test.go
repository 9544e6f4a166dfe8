package promotion_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// other is another slave of the world.
type other struct {
	applied kv.Index
	// clock is that of its log; 0 is that of all nodes at its index.
	clock kv.Clock
	seal  string
	// digest is that of its last change; 0 is that of all nodes at its index.
	digest uint64
	// history is what it follows if that is not former.
	history string
	lag     uint64
	down    error
	became  *promotion.Record
	// undone: another call undoes its seal at once.
	undone bool
	// hangs is the call in which it stops answering, and hung reports whether it has.
	hangs string
	hung  bool
	// slow is how long it takes to catch up.
	slow time.Duration
}

func (o *other) positions() []promotion.Position {
	p := promotion.Position{VBucket: "default", History: former, Index: o.applied, Clock: cmp.Or(o.clock, kv.Clock(o.applied)), Digest: o.digest, Sealed: o.seal, Lag: o.lag}
	if p.Digest == 0 {
		p.Digest = p.Index
	}
	if o.history != "" {
		p.History = o.history
	}
	return []promotion.Position{p}
}

// slaves is the world as the founder reaches the other slaves.
type slaves struct{ *world }

func (s slaves) call(ctx context.Context, call, address string) (*other, error) {
	if err := s.note(call); err != nil {
		return nil, err
	}
	o := s.others[address]
	if o == nil || o.down != nil {
		return nil, unreachable
	}
	return o, s.hang(ctx, call, o)
}

// hang waits until ctx ends if the slave hangs.
func (w *world) hang(ctx context.Context, call string, o *other) error {
	w.mu.Lock()
	o.hung = o.hung || o.hangs == call
	hung := o.hung
	w.mu.Unlock()
	if !hung {
		return nil
	}
	<-ctx.Done()
	return kv.Errorf(kv.Unavailable, "did not answer: %w", ctx.Err())
}

func (slaves) Self() (promotion.Node, error) {
	return promotion.Node{Address: "s:1", URL: "http://s:9", Disk: "s"}, nil
}

func (slaves) Format() uint32 { return 1 }

func (s slaves) Look(ctx context.Context, address string) (promotion.Node, []promotion.Position, error) {
	o, err := s.call(ctx, "look", address)
	if err != nil {
		return promotion.Node{}, nil, err
	}
	name, _, _ := strings.Cut(address, ":")
	s.mu.Lock()
	defer s.mu.Unlock()
	return promotion.Node{Address: address, URL: "http://" + name + ":9", Disk: name}, o.positions(), nil
}

func (s slaves) Seal(ctx context.Context, address, id string) ([]promotion.Position, error) {
	o, err := s.call(ctx, "seal other", address)
	if err != nil {
		return nil, err
	}
	if o.seal != "" && o.seal != id {
		return nil, fmt.Errorf("sealed by %s", o.seal)
	}
	if o.seal = id; o.undone {
		o.seal = ""
	}
	return o.positions(), nil
}

func (s slaves) Unseal(ctx context.Context, address, id string) error {
	o, err := s.call(ctx, "unseal other", address)
	if err == nil && o.seal == id {
		o.seal = ""
	}
	return err
}

func (s slaves) CatchUp(ctx context.Context, address, id, _, from string, upTo kv.Index) ([]promotion.Position, error) {
	o, err := s.call(ctx, "catch up other", address)
	if err != nil {
		return nil, err
	}
	if !sleep.For(ctx, o.slow) {
		return nil, ctx.Err()
	}
	source := s.applied
	if from != "s:1" {
		source = s.others[from].applied
	}
	if o.seal != id || source < upTo {
		return nil, fmt.Errorf("sealed by %q, and %s is at %d", o.seal, from, source)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o.applied, o.clock = upTo, 0
	return o.positions(), nil
}

func (s slaves) TakeRequests(ctx context.Context, address, _, founder string) error {
	_, err := s.call(ctx, "take requests", address)
	if err == nil && founder == "s:1" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests[address]++
	}
	return err
}

func (s slaves) Become(ctx context.Context, address string, r promotion.Record) error {
	o, err := s.call(ctx, "become", address)
	if err == nil {
		o.became = &r
	}
	return err
}

// newSet is a world with a founder and two other slaves, which are not all up to date.
func newSet() *world {
	return &world{
		applied: 40, written: 40, requests: map[string]int{},
		others: map[string]*other{"t:1": {applied: 38}, "u:1": {applied: 41}},
	}
}

var with = promotion.Request{With: []string{"t:1", "u:1"}}

// wantSet checks that three nodes become masters with one state, each as another replica.
func wantSet(t *testing.T, w *world, r *promotion.Record, end kv.Index) {
	t.Helper()
	if r == nil || r.Step != promotion.Decided || len(r.Nodes) != 3 || r.Replica != 1 || r.Deployment == 0 || r.Cuts["default"].End != end {
		t.Fatalf("%+v", r)
	}
	if w.applied != end || w.slaveSeal != r.ID {
		t.Errorf("the founder is at %d, sealed by %q", w.applied, w.slaveSeal)
	}
	for i, address := range with.With {
		o := w.others[address]
		if o.applied != end || o.seal != r.ID || w.requests[address] == 0 {
			t.Errorf("%s: %+v, %d times the requests", address, o, w.requests[address])
		}
		if b := o.became; b == nil || b.Replica != uint64(i)+2 || b.Deployment != r.Deployment || b.History != r.History || b.Step != promotion.Decided {
			t.Errorf("%s became %+v", address, o.became)
		}
	}
}

// All slaves get what one of them has, and the founder's requests.
func TestSetHasTheGreatestIndexOfAll(t *testing.T) {
	w, dir := newSet(), t.TempDir()
	w.cut = true // the founder gets nothing more from the masters
	w.written = 39
	steps, asked, ran := w.promote(t, dir, with)
	if asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Fatal(asked, ran)
	}
	wantSet(t, w, recordOf(t, dir), 41)
	if !slices.Contains(steps, promotion.Equal) || len(recordOf(t, dir).Untold) != 0 {
		t.Errorf("%v, %+v", steps, recordOf(t, dir))
	}
}

// A node that is behind may have a clock from before that was set back.
func TestSetHasTheClockOfTheGreatestIndex(t *testing.T) {
	for _, ahead := range []string{"t:1", "u:1"} {
		w, dir := newSet(), t.TempDir()
		w.cut, w.written = true, 39
		w.others["t:1"].clock, w.others["u:1"].clock = 500, 300
		w.others[ahead].applied = 45
		want := map[string]kv.Clock{"t:1": 500, "u:1": 300}[ahead]
		if _, asked, ran := w.promote(t, dir, with); asked != nil || !errors.Is(ran, promotion.ErrDecided) {
			t.Fatal(asked, ran)
		}
		wantSet(t, w, recordOf(t, dir), 45)
		if got := recordOf(t, dir).Cuts["default"].Clock; got != want {
			t.Errorf("%s is ahead: the clock is %d, want %d", ahead, got, want)
		}
	}
}

// A crash at any call of the promotion is gone over: every node ends as one master of one set.
func TestSetIsPromotedOverACrashAtEachStep(t *testing.T) {
	for _, call := range []string{"look", "seal master", "await", "seal slave", "seal other", "catch up slave", "catch up other", "take requests", "become"} {
		w, dir := newSet(), t.TempDir()
		w.cut, w.written = true, 39
		w.crash = call
		w.promote(t, dir, with)
		if w.crash != "" {
			t.Fatalf("%s: it was not called", call)
		}
		switch r := recordOf(t, dir); {
		case r == nil: // nothing was sealed
			w.promote(t, dir, with)
		case r.Step == promotion.Decided: // there is no way back: the masters tell the others
			successor := promotion.Successor{Dir: dir, Become: slaves{w}.Become, Yield: yields, Log: discard}
			if err := successor.Run(t.Context(), *r); err != nil {
				t.Error(call, err)
			}
		default:
			w.exit = func() {}
			f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: discard}, r)
			if err := f.Run(t.Context()); !errors.Is(err, promotion.ErrDecided) {
				t.Error(call, err)
			}
		}
		t.Run(call, func(t *testing.T) { wantSet(t, w, recordOf(t, dir), 41) })
	}
}

var discard = slog.New(slog.DiscardHandler)

func yields(context.Context, string) ([]string, error) { return nil, nil }

// What cannot become a master with the others is rejected before anything is sealed, or everything
// is unsealed again.
func TestSetThatCannotBePromotedIsUnsealed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		want   string
	}{
		"a node is down":        {func(w *world) { w.others["u:1"].down = unreachable }, "u:1"},
		"another history":       {func(w *world) { w.others["u:1"].history = "9-zz" }, "both have to follow the same masters"},
		"another last change":   {func(w *world) { w.others["u:1"].digest = 7 }, "has diverged"},
		"sealed by another one": {func(w *world) { w.others["u:1"].seal = "other" }, "another promotion has sealed it"},
		"its seal was undone":   {func(w *world) { w.others["u:1"].undone = true }, "not sealed there any more"},
		"nothing reaches them":  {func(w *world) { w.cut, w.written = true, 60 }, "at least"},
	} {
		w, dir := newSet(), t.TempDir()
		c.change(w)
		_, asked, _ := w.promote(t, dir, with)
		if asked == nil || !strings.Contains(asked.Error(), c.want) {
			t.Errorf("%s: %v", name, asked)
		}
		for address, o := range w.others {
			if o.seal != "" && o.seal != "other" || o.became != nil {
				t.Errorf("%s: %s is left as %+v", name, address, o)
			}
		}
		if w.masterSeal != "" || w.slaveSeal != "" || recordOf(t, dir) != nil {
			t.Errorf("%s: master %q, slave %q, %+v", name, w.masterSeal, w.slaveSeal, recordOf(t, dir))
		}
	}
}

// A planned promotion does not begin while a slave lags: writes would pause for long.
func TestPlannedPromotionWaitsForNoSlave(t *testing.T) {
	w, dir := newSet(), t.TempDir()
	w.others["t:1"].lag = 1 << 20
	_, asked, _ := w.promote(t, dir, promotion.Request{With: with.With, Planned: true})
	if asked == nil || !strings.Contains(asked.Error(), "1048576 changes behind") || w.masterSeal != "" {
		t.Errorf("%v, master sealed by %q", asked, w.masterSeal)
	}
}

// A node that was not told is told by the masters that have begun.
func TestNodeThatIsAwayIsToldLater(t *testing.T) {
	w, dir := newSet(), t.TempDir()
	w.crash = "become"
	w.promote(t, dir, with)
	r := recordOf(t, dir)
	if r.Step != promotion.Decided || len(r.Untold) == 0 {
		t.Fatalf("%+v", r)
	}
	successor := promotion.Successor{Dir: dir, Become: slaves{w}.Become, Yield: yields, Log: discard}
	if err := successor.Run(t.Context(), *r); err != nil {
		t.Fatal(err)
	}
	wantSet(t, w, recordOf(t, dir), 41)
}

// A promotion that is asked for again after it was given up has another id, so that a late end of
// the former seal does not end the new one.
func TestPromotionAfterOneThatWasGivenUpHasAnotherID(t *testing.T) {
	w, dir := newSet(), t.TempDir()
	w.cut, w.written = true, 60
	w.crash = "unseal other"
	w.promote(t, dir, with)
	first := recordOf(t, dir)
	if first == nil || first.Step != promotion.Abandoning {
		t.Fatalf("%+v", first)
	}
	w.cut = false
	if _, asked, ran := w.promote(t, dir, with); asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Fatal(asked, ran)
	}
	if r := recordOf(t, dir); r.ID == first.ID {
		t.Error("it has the same id")
	}
}
