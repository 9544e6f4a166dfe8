package promotion_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/testkit"
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

// awaitsBadly is the world whose folder is away once the founder has sealed the master.
type awaitsBadly struct {
	*world
	away func()
}

func (w awaitsBadly) Await(context.Context, string, kv.Index) error {
	w.away()
	return errors.New("the disk has failed")
}

// A promotion that fails while its founder's disk takes nothing is given up once that does again: the
// master would be sealed for ever.
func TestPromotionIsGivenUpOnceTheDiskTakesThat(t *testing.T) {
	w, dir := &world{applied: 7, written: 9}, filepath.Join(t.TempDir(), "db")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	opts := promotion.Options{Dir: dir, Copies: awaitsBadly{w, func() { move(dir, dir+"-away") }}, Masters: master{w}, Set: slaves{w}, Log: discard}
	f := promotion.NewFounder(opts, nil)
	ctx, end := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	err := f.Promote(t.Context(), promotion.Request{}, nil)
	if err == nil || !strings.Contains(err.Error(), "the disk has failed") || !strings.Contains(err.Error(), "cannot be written down yet") || !strings.Contains(f.Under(), "is begun") && !strings.Contains(f.Under(), "is fenced") {
		t.Errorf("%v, %s", err, f.Under())
	}
	move(dir+"-away", dir)
	testkit.Eventually(t, "it is given up", func() bool { return f.Under() == "" })
	end()
	if err := <-ran; err != nil || recordOf(t, dir) != nil || w.masterSeal != "" {
		t.Errorf("%v, %+v, master sealed by %q", err, recordOf(t, dir), w.masterSeal)
	}
}

// A slave that the record does not name says which one may replace masters that cannot be sealed: that
// needs no force.
func TestPromotionNamesTheStandbyOfTheRecord(t *testing.T) {
	w, dir := &world{applied: 7, written: 9, down: unreachable}, t.TempDir()
	lapsed(w, given).record = &promotion.Claim{Version: 4, At: []string{"t:1"}}
	_, asked, ran := w.promote(t, dir, promotion.Request{})
	if ran != nil || asked == nil || !strings.Contains(asked.Error(), "lets only t:1 replace masters that cannot be sealed") {
		t.Errorf("%v, %v", asked, ran)
	}
}

// A master that was sealed by a promotion which is given up serves on soon after it answers, also if the
// slave had many orders before: it accepts nothing meanwhile.
func TestMasterIsUnsealedSoonHoweverManyOrdersThereWere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{applied: 7, written: 9}
		f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: master{w}, Set: slaves{w}, Log: discard}, nil)
		ctx, end := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- f.Run(ctx) }()
		for range 10 {
			if err := f.Promote(ctx, promotion.Request{Abandon: true}, nil); err == nil {
				t.Error("there was none to abandon")
			}
		}
		silent := kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))
		w.down = silent
		if err := f.Promote(ctx, promotion.Request{}, nil); err == nil {
			t.Error("it was promoted")
		}
		for _, c := range []struct{ away, most time.Duration }{{0, 2 * time.Second}, {time.Hour + 10*time.Second, 10 * time.Second}} {
			if c.away > 0 {
				if err := f.Promote(ctx, promotion.Request{}, nil); err == nil {
					t.Error("it was promoted")
				}
				time.Sleep(c.away)
			}
			synctest.Wait()
			w.down, w.masterSeal = nil, recordOf(t, dir).ID
			begun := time.Now()
			for f.Under() != "" {
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(begun); w.masterSeal != "" || took > c.most {
				t.Errorf("away for %v: sealed by %q, after %v", c.away, w.masterSeal, took)
			}
			synctest.Wait()
			w.down = silent
		}
		end()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// oneHangs is a world in which the master names another one that does not answer, or both are known.
type oneHangs struct {
	master
	known []string
	// foreign: that one is a master of another database's history and answers before the other.
	foreign bool
}

func (m oneHangs) Known() []string { return m.known }

func (m oneHangs) Seal(ctx context.Context, address, id string) (promotion.SealedDatabase, error) {
	switch {
	case address == "m:1" && m.foreign:
		if !sleep.For(ctx, time.Second) {
			return promotion.SealedDatabase{}, kv.UnknownOutcome(kv.Unavailable, ctx.Err())
		}
	case address == "m:1":
	case m.foreign:
		return promotion.SealedDatabase{VBuckets: []promotion.SealedVBucket{{Name: "default", History: "other", Index: 3}}}, nil
	default:
		<-ctx.Done()
		return promotion.SealedDatabase{}, kv.UnknownOutcome(kv.Unavailable, ctx.Err())
	}
	sealed, err := m.master.Seal(ctx, address, id)
	sealed.Masters = []string{"m:2"}
	return sealed, err
}

// A master that is down does not keep the others sealed for longer than they have to be: it owns no
// log. What answers with another history seals nothing.
func TestPromotionWaitsForNoMasterThatIsDown(t *testing.T) {
	for _, c := range []struct {
		name    string
		known   []string
		foreign bool
		most    time.Duration
	}{
		{"it is named by the other", []string{"m:1"}, false, time.Second},
		{"it is known", []string{"m:1", "m:2"}, false, time.Second},
		{"another database answers first", []string{"m:1", "m:2"}, true, 4 * time.Second},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w := &world{applied: 7, written: 9}
			f := promotion.NewFounder(promotion.Options{Dir: dir, Copies: w, Masters: oneHangs{master{w}, c.known, c.foreign}, Set: slaves{w}, Log: discard}, nil)
			ran := make(chan error, 1)
			go func() { ran <- f.Run(t.Context()) }()
			begun := time.Now()
			if err := f.Promote(t.Context(), promotion.Request{Planned: true}, nil); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			took := time.Since(begun)
			if r := recordOf(t, dir); took > c.most || r == nil || r.Step != promotion.Decided || !slices.Equal(r.Masters, []string{"m:1", "m:2"}) {
				t.Errorf("%s: after %v, %+v", c.name, took, r)
			}
			if err := <-ran; !errors.Is(err, promotion.ErrDecided) {
				t.Errorf("%s: %v", c.name, err)
			}
		})
	}
}
