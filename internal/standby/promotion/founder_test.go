package promotion_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

const former = "6f1c"

// world is a master with one slave, without a network.
type world struct {
	// mu guards what calls that are made at the same time change: calls, crash and requests.
	mu sync.Mutex
	// applied is how far the slave is, written how far the master.
	applied, written kv.Index
	// masterSeal and slaveSeal are the promotions that have sealed them.
	masterSeal, slaveSeal string
	// unfit is why the slave could not be a master.
	unfit error
	// down is why the master does not answer; nil if it does.
	down error
	// stops is the call after which the master does not answer any more, and then is called with it.
	stops string
	then  func()
	// confirmed is up to where the slave has confirmed changes as received, and stalls how often
	// it cannot be sealed yet.
	confirmed kv.Index
	stalls    int
	// said are the sentences that the founder has reported.
	said []string
	// cut keeps changes from reaching the slave.
	cut bool
	// calls are those to master and slave, in order.
	calls []string
	// others are the other slaves, by address.
	others map[string]*other
	// requests is how often a node has got the founder's remembered requests.
	requests map[string]int
	// follows is the slave's history if it is not former.
	follows string
	// crash ends the founder's process in the call of this name, before it has an effect.
	crash string
	exit  context.CancelFunc
	// registry has the record; nil for none.
	registry *registry
	// keepers are masters that keep a log together, by address; nil for one that keeps it alone.
	keepers map[string]*keeper
	// leased: the log says that its owners need the lease of the record.
	leased bool
	// digest is that of the slave's last change, end that of the log of the master, which keeps it
	// alone; 0 is not known.
	digest, end uint64
	// unsealed is when the seal of the master ended.
	unsealed time.Time
}

func (w *world) note(call string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
	if w.stops == call {
		w.down = unreachable
		if w.then != nil {
			w.then()
		}
	}
	if w.crash == call {
		w.crash = ""
		w.exit()
		return context.Canceled
	}
	return nil
}

func (w *world) Positions() []promotion.Position {
	history := former
	if w.follows != "" {
		history = w.follows
	}
	return []promotion.Position{{VBucket: "default", History: history, Index: w.applied, Lag: w.written - w.applied}}
}

func (w *world) Await(_ context.Context, _ string, index kv.Index) error {
	if err := w.note("await"); err != nil {
		return err
	}
	if !w.cut && w.slaveSeal == "" {
		w.applied = max(w.applied, w.written)
	}
	if w.applied < index {
		return errors.New("too late")
	}
	return nil
}

func (w *world) Seal(_ context.Context, id string) error {
	if err := w.note("seal slave"); err != nil {
		return err
	}
	if w.stalls > 0 {
		w.stalls--
		return kv.Errorf(kv.Unavailable, "the disk stalls")
	}
	w.slaveSeal = id
	return nil
}

func (w *world) Unseal(_ context.Context, id string) error {
	if w.slaveSeal == id {
		w.slaveSeal = ""
	}
	return w.note("unseal slave")
}

func (w *world) Reached(context.Context) ([]promotion.Position, error) {
	out := w.Positions()
	out[0].Sealed, out[0].Confirmed, out[0].Digest = w.slaveSeal, w.confirmed, w.digest
	return out, nil
}

func (w *world) CatchUp(ctx context.Context, id, _, from string, upTo kv.Index) error {
	if err := w.note("catch up slave"); err != nil {
		return err
	}
	if k := w.keepers[from]; k != nil {
		if k.down != nil || k.by != id || k.vBucket.End < upTo {
			return fmt.Errorf("%s is stopped by %q at %d", from, k.by, k.vBucket.End)
		}
		w.applied, w.digest = upTo, k.vBucket.Digest
		return nil
	}
	if o := w.others[from]; o != nil {
		if err := w.hang(ctx, "serve changes", o); err != nil {
			return err
		}
	}
	if w.slaveSeal != id || w.others[from].applied < upTo {
		return fmt.Errorf("sealed by %q, and %s is at %d", w.slaveSeal, from, w.others[from].applied)
	}
	w.applied = upTo
	return nil
}

// master is the world as the founder reaches its master.
type master struct{ *world }

func (m master) Known() []string {
	if m.keepers != nil {
		return slices.Sorted(maps.Keys(m.keepers))
	}
	return []string{"m:1"}
}

func (m master) Seal(_ context.Context, _, id string) (promotion.SealedDatabase, error) {
	if err := m.note("seal master"); err != nil {
		return promotion.SealedDatabase{}, err
	}
	if m.down != nil {
		return promotion.SealedDatabase{}, m.down
	}
	if m.masterSeal == "" {
		m.masterSeal = id
		m.written++
	}
	if m.masterSeal != id {
		return promotion.SealedDatabase{}, kv.Errorf(kv.Precondition, "another promotion has sealed it already")
	}
	return promotion.SealedDatabase{VBuckets: []promotion.SealedVBucket{{Name: "default", History: former, Index: m.written, Digest: m.end}}, Leased: m.leased}, nil
}

func (m master) Unseal(_ context.Context, _, id string) error {
	if err := m.note("unseal master"); err != nil {
		return err
	}
	if m.keepers != nil {
		return nil
	}
	if m.down != nil {
		return m.down
	}
	if m.masterSeal == id {
		m.masterSeal, m.unsealed = "", time.Now()
	}
	return nil
}

// promote runs a founder on the folder until it ends, and returns what the request got.
func (w *world) promote(t *testing.T, dir string, r promotion.Request) (steps []promotion.Step, asked, ran error) {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	w.exit = end
	part, err := promotion.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Unfit: func() error { return w.unfit }, Log: slog.New(slog.DiscardHandler)}
	if w.registry != nil {
		opts.Registry = w.registry
	}
	f := promotion.NewFounder(opts, part.Promotion)
	running := make(chan error, 1)
	go func() { running <- f.Run(ctx) }()
	asked = f.Promote(ctx, r, func(p promotion.Progress) error {
		steps, w.said = append(steps, p.Step), append(w.said, p.Text)
		return nil
	})
	if asked != nil {
		end()
	}
	return steps, asked, <-running
}

func recordOf(t *testing.T, dir string) *promotion.Record {
	t.Helper()
	part, err := promotion.Of(dir)
	if err != nil {
		t.Fatal(err)
	}
	return part.Promotion
}

// A slave that could not be a master says why, and seals nothing.
func TestASlaveThatCouldNotOpenItsDataIsNotPromoted(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, unfit: errors.New("its key is gone")}, t.TempDir()
	_, asked, _ := w.promote(t, dir, promotion.Request{})
	if kv.KindOf(asked) != kv.Precondition || !errors.Is(asked, w.unfit) || len(w.calls) > 0 {
		t.Errorf("%v after %q", asked, w.calls)
	}
}

// The master is sealed before its last changes are awaited, and the copies are sealed last.
func TestPromotionOfAPair(t *testing.T) {
	w, dir := &world{applied: 7, written: 9}, t.TempDir()
	steps, asked, ran := w.promote(t, dir, promotion.Request{})
	if asked != nil || !errors.Is(ran, promotion.ErrDecided) {
		t.Fatal(asked, ran)
	}
	if want := []promotion.Step{promotion.Begun, promotion.Fenced, promotion.Sealed, promotion.Decided}; !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
	if want := []string{"seal master", "await", "seal slave", "seal master"}; !slices.Equal(w.calls, want) {
		t.Errorf("calls %v, want %v", w.calls, want)
	}
	r := recordOf(t, dir)
	if r.Era != 1 || era.Of(r.History) != 1 || r.Cuts["default"] != (promotion.Cut{Former: former, Seal: 10, End: 10}) || r.ID != w.slaveSeal || r.ID != w.masterSeal {
		t.Errorf("%+v", r)
	}
}

// Whatever step the process ends in, the next one goes on with the same promotion.
func TestPromotionGoesOnAfterACrash(t *testing.T) {
	for _, at := range []string{"seal master", "await", "seal slave"} {
		w, dir := &world{applied: 7, written: 9, crash: at}, t.TempDir()
		if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked == nil {
			t.Fatalf("%s: no crash", at)
		}
		before := recordOf(t, dir)
		ctx, end := context.WithTimeout(t.Context(), time.Minute)
		w.exit = end
		err := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: slog.New(slog.DiscardHandler)}, before).Run(ctx)
		if after := recordOf(t, dir); !errors.Is(err, promotion.ErrDecided) || after.ID != before.ID || after.History != before.History || after.Cuts["default"].End != 10 {
			t.Errorf("%s: %v, %+v after %+v", at, err, after, before)
		}
		end()
	}
}

var unreachable = kv.Errorf(kv.Unavailable, "connection refused")

// Without a fence nothing is promoted, unless it is forced, and nothing stays sealed.
func TestMasterThatCannotBeSealed(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "m:1: connection refused") || !strings.Contains(asked.Error(), "at least 2 changes are missing here") ||
		!strings.HasSuffix(asked.Error(), "promote with -force") {
		t.Fatal(asked, ran)
	}
	if recordOf(t, dir) != nil || w.slaveSeal != "" {
		t.Errorf("%+v, sealed by %q", recordOf(t, dir), w.slaveSeal)
	}
	_, asked, ran = w.promote(t, dir, promotion.Request{Force: true})
	if r := recordOf(t, dir); asked != nil || !errors.Is(ran, promotion.ErrDecided) || r.Fence != "" || r.Cuts["default"].End != 7 {
		t.Errorf("%v, %v, %+v", asked, ran, r)
	}
}

// A master that may have been sealed is told to serve on until it answers.
func TestMasterThatMayBeSealedIsUnsealed(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))}, t.TempDir()
	if _, asked, _ := w.promote(t, dir, promotion.Request{}); asked == nil {
		t.Fatal("it was promoted")
	}
	r := recordOf(t, dir)
	if r == nil || r.Step != promotion.Abandoning {
		t.Fatalf("%+v", r)
	}
	w.down, w.masterSeal = nil, r.ID
	if _, asked, _ := w.promote(t, dir, promotion.Request{Abandon: true}); asked == nil || !strings.Contains(asked.Error(), "no promotion of this node is under way") {
		t.Fatal(asked) // the start has ended the seal already
	}
	if recordOf(t, dir) != nil || w.masterSeal != "" {
		t.Errorf("%+v, sealed by %q", recordOf(t, dir), w.masterSeal)
	}
}

// If the last changes do not arrive the promotion is given up, and the master serves on.
func TestChangesThatDoNotArrive(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, cut: true}, t.TempDir()
	_, asked, _ := w.promote(t, dir, promotion.Request{})
	if asked == nil || !strings.Contains(asked.Error(), "at least 3 changes are missing here") {
		t.Fatal(asked)
	}
	if recordOf(t, dir) != nil || w.slaveSeal != "" || w.masterSeal != "" {
		t.Errorf("%+v, sealed by %q and %q", recordOf(t, dir), w.slaveSeal, w.masterSeal)
	}
}

// A diskless slave and one without data are rejected before anything is sealed.
func TestWhatCannotBePromoted(t *testing.T) {
	w := &world{applied: 7, written: 9}
	if _, asked, _ := w.promote(t, "", promotion.Request{}); asked == nil || !strings.Contains(asked.Error(), "diskless") || len(w.calls) != 0 {
		t.Error(asked, w.calls)
	}
}

// A seal that a promotion has given up is no fence for the next attempt: the master may have
// acknowledged mutations since.
func TestSealThatWasGivenUpIsNoFence(t *testing.T) {
	w, dir := &world{applied: 10, written: 20, down: unreachable}, t.TempDir()
	given := promotion.Record{ID: "p", Step: promotion.Abandoning, Era: 1, History: "1-aa", Masters: []string{"m:1"},
		Cuts: map[string]promotion.Cut{"default": {Former: former, Seal: 10, End: 10}}}
	if err := given.Write(dir); err != nil {
		t.Fatal(err)
	}
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "the master cannot be sealed: m:1") {
		t.Fatal(asked, ran)
	}
	if r := recordOf(t, dir); r == nil || r.Step != promotion.Abandoning || len(r.Masters) != 0 || len(r.Earlier) != 1 || r.Earlier[0].ID != "p" || !slices.Equal(r.Earlier[0].Masters, given.Masters) {
		t.Errorf("%+v", r)
	}
	w.follows = era.History(4, "bb") // what is promoted is the copy as it is now
	_, asked, ran = w.promote(t, dir, promotion.Request{Force: true})
	if r := recordOf(t, dir); asked != nil || !errors.Is(ran, promotion.ErrDecided) || r.Era != 5 || r.ID == "p" || r.Cuts["default"].Seal != 0 || r.Cuts["default"].Former != w.follows {
		t.Errorf("%v, %v, %+v", asked, ran, r)
	}
}

// A copy that follows another history than the promotion began with is not decided on: its fork
// would fail at each start.
func TestCopyOfAnotherHistoryIsNotPromoted(t *testing.T) {
	w, dir := &world{applied: 10, written: 10, follows: era.History(1, "bb")}, t.TempDir()
	begun := promotion.Record{ID: "p", Step: promotion.Fenced, Era: 1, History: "1-aa", Force: true, Cuts: map[string]promotion.Cut{"default": {Former: former}}}
	if err := begun.Write(dir); err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	w.exit = end
	defer end()
	f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: slog.New(slog.DiscardHandler)}, &begun)
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	err := f.Promote(ctx, promotion.Request{Abandon: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "none to abandon") || recordOf(t, dir) != nil || w.slaveSeal != "" {
		t.Errorf("%v, %+v, sealed by %q", err, recordOf(t, dir), w.slaveSeal)
	}
	end()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// A promotion that was given up, and is not told everywhere since a master never answers again, does
// not keep the node out of another one. The seal of that is no concern of it, and ends by hand.
func TestPromotionThatWasGivenUpKeepsTheNodeOutOfNoOther(t *testing.T) {
	w, dir := &world{applied: 10, written: 10, down: unreachable, slaveSeal: "q"}, t.TempDir()
	given := promotion.Record{ID: "p", Step: promotion.Abandoning, Era: 1, History: "1-aa", Masters: []string{"m:1"}}
	if err := given.Write(dir); err != nil {
		t.Fatal(err)
	}
	for step, busy := range map[promotion.Step]bool{promotion.Abandoning: false, promotion.Begun: true, promotion.Claiming: true} {
		f := promotion.NewFounder(promotion.Options{}, &promotion.Record{Step: step})
		if (f.Busy() != "") != busy || f.Under() == "" {
			t.Errorf("%s: %q, under way: %q", step, f.Busy(), f.Under())
		}
	}
	if f := promotion.NewFounder(promotion.Options{}, nil); f.Busy() != "" {
		t.Error(f.Busy())
	}
	_, asked, _ := w.promote(t, dir, promotion.Request{})
	if asked == nil || !strings.Contains(asked.Error(), "a promotion of another node has sealed vBucket default here") || w.slaveSeal != "q" || slices.Contains(w.calls, "seal master") {
		t.Errorf("%v, sealed by %q, %q", asked, w.slaveSeal, w.calls)
	}
	_, asked, _ = w.promote(t, dir, promotion.Request{Abandon: true})
	if asked == nil || !strings.Contains(asked.Error(), "m:1: connection refused") || w.slaveSeal != "" || recordOf(t, dir).Step != promotion.Abandoning {
		t.Errorf("%v, sealed by %q, %+v", asked, w.slaveSeal, recordOf(t, dir))
	}
}
