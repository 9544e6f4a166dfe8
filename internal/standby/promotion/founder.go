package promotion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
)

const (
	// callPatience bounds a call to a master. One that answers no sooner is unreachable.
	callPatience = 5 * time.Second
	// awaitPatience is how long the founder may take to get the last changes of masters
	// that are sealed.
	awaitPatience = 30 * time.Second
	// unsealPause is how long to wait before masters are asked again to serve on, at first
	// and at most.
	unsealPause, maxUnsealPause = time.Second, time.Minute
)

// ErrDecided means that the node is to become a master, which it does by opening its data
// folder again.
var ErrDecided = errors.New("a promotion was decided: this node becomes a master")

// Options are what a Founder is made with.
type Options struct {
	// Dir is the data folder; empty for a diskless node, which cannot be promoted.
	Dir     string
	Copies  Copies
	Masters Masters
	Log     *slog.Logger
}

// Founder promotes its node when it is told to, and goes on with a promotion that a crash
// has interrupted.
type Founder struct {
	opts Options
	// orders holds what Run has to do next.
	orders chan *order

	// own is the promotion that this process has begun, and untouched the masters that it
	// has certainly not sealed. What an earlier process has sealed is not known.
	own       string
	untouched map[string]bool

	mu sync.Mutex
	// record is the promotion that is under way; nil for none. Run replaces it.
	record *Record
}

// Request is what an operator wants.
type Request struct {
	// Force promotes although the masters cannot be sealed, or changes are missing.
	Force bool
	// Planned wants nothing else than masters that can be sealed.
	Planned bool
	// Abandon gives up a promotion that is not decided.
	Abandon bool
}

// Progress is a step that was reached.
type Progress struct {
	Step Step
	// Text is a sentence.
	Text string
	// Era is that of the new history, once the promotion is decided.
	Era uint64
}

// order is a request with where its progress goes.
type order struct {
	Request
	ctx    context.Context
	report func(Progress) error
	done   chan error
}

// NewFounder makes the founder of a node with what Of has found.
func NewFounder(opts Options, found *Record) *Founder {
	return &Founder{opts: opts, orders: make(chan *order), untouched: map[string]bool{}, record: found}
}

// Promote does what a request says, while Run runs, and reports each step. It returns when
// the promotion is decided or given up. If ctx ends before, the promotion goes on.
func (f *Founder) Promote(ctx context.Context, r Request, report func(Progress) error) error {
	o := &order{Request: r, ctx: ctx, report: report, done: make(chan error, 1)}
	select {
	case f.orders <- o:
	case <-ctx.Done():
		return kv.Errorf(kv.Unavailable, "another promotion of this node is under way: %w", ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the promotion goes on: %w; ask for it again to see how far it is", ctx.Err()))
	}
}

// Run does what it is told until ctx ends. It returns ErrDecided once the node is to become
// a master.
func (f *Founder) Run(ctx context.Context) error {
	if f.record.Under() {
		o := &order{Request: Request{Force: f.record.Force}, done: make(chan error, 1)}
		if err := f.take(ctx, o); err != nil {
			return err
		}
	}
	for pause := unsealPause; ctx.Err() == nil; pause = min(2*pause, maxUnsealPause) {
		var again <-chan time.Time
		if f.record != nil && f.record.Step == Abandoning {
			if err := f.release(ctx); err != nil && ctx.Err() == nil {
				f.opts.Log.Warn("masters may still be sealed by a promotion that was given up", "masters", f.record.Masters, "error", err)
				again = time.After(pause)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case o := <-f.orders:
			if err := f.take(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// take does what an order says and answers it. Its error ends Run.
func (f *Founder) take(ctx context.Context, o *order) error {
	err := f.do(ctx, o)
	if errors.Is(err, ErrDecided) {
		o.done <- nil
		return err
	}
	if err != nil && ctx.Err() == nil {
		f.opts.Log.Error("the promotion has failed", "error", err)
	}
	o.done <- err
	return nil
}

func (f *Founder) do(ctx context.Context, o *order) error {
	if o.Abandon {
		return f.abandon(ctx, o)
	}
	if err := f.admit(); err != nil {
		return err
	}
	if err := f.begin(o); err != nil {
		return err
	}
	for {
		err := f.next(ctx, o)
		switch {
		case errors.Is(err, ErrDecided):
			return err
		case err != nil && ctx.Err() != nil:
			return kv.Errorf(kv.Unavailable, "the node is stopping; the promotion goes on when it starts again: %w", err)
		case err != nil:
			return f.giveUp(ctx, o, err)
		}
	}
}

// admit rejects what can never become a master.
func (f *Founder) admit() error {
	if f.opts.Dir == "" {
		return kv.Errorf(kv.Precondition, "this slave is diskless: what it acknowledged as a master would be lost with the process; promote a slave with a disk")
	}
	positions := f.opts.Copies.Positions()
	if n := len(positions); n > 1 {
		return kv.Errorf(kv.Precondition, "this database is cut into %d vBuckets, and a single node serves mutations of one; a set of slaves cannot be promoted in this version", n)
	}
	for _, p := range positions {
		if p.History == "" {
			return kv.Errorf(kv.Precondition, "vBucket %s has no data yet: this slave has not bootstrapped; wait for dkvctl -status to show it alive, or promote another slave", p.VBucket)
		}
	}
	return nil
}

// begin writes down that a promotion has begun, or goes on with the one that there is.
func (f *Founder) begin(o *order) error {
	if f.record != nil {
		again := *f.record
		again.Force = again.Force || o.Force
		if again.Step == Abandoning {
			again.Step = Begun
			again.Masters = union(again.Masters, f.opts.Masters.Known())
		}
		return f.write(o, again, "a promotion of this node goes on")
	}
	r := Record{ID: fsm.NewID(), Step: Begun, Force: o.Force, Masters: f.opts.Masters.Known(), Cuts: map[string]Cut{}}
	for _, p := range f.opts.Copies.Positions() {
		r.Cuts[p.VBucket] = Cut{Former: p.History}
		r.Era = max(r.Era, standby.Era(p.History)+1)
	}
	r.History = standby.History(r.Era, fsm.NewID())
	f.own, f.untouched = r.ID, map[string]bool{}
	return f.write(o, r, "the promotion to era "+fmt.Sprint(r.Era)+" has begun")
}

// next takes the step after the one of the record.
func (f *Founder) next(ctx context.Context, o *order) error {
	r := *f.record
	switch r.Step {
	case Begun:
		return f.fence(ctx, o, r)
	case Fenced:
		return f.sealCopies(ctx, o, r)
	case Sealed:
		r.Step = Decided
		if err := f.write(o, r, fmt.Sprintf("the promotion is decided: this node becomes the master of era %d", r.Era)); err != nil {
			return err
		}
		return ErrDecided
	default:
		return ErrDecided
	}
}

// fence seals the masters, so that they acknowledge nothing that the founder does not have.
func (f *Founder) fence(ctx context.Context, o *order, r Record) error {
	sealed, err := f.sealMasters(ctx, &r)
	if err != nil && ctx.Err() != nil {
		return err
	}
	if err != nil && !r.Force {
		return kv.Errorf(kv.Precondition, "the master cannot be sealed: %w; %s. "+
			"Bring it back, or, if it is gone for good or is certainly stopped, promote with -force", err, f.missing(nil))
	}
	r.Step = Fenced
	text := fmt.Sprintf("%s sealed: no mutation is acknowledged any more", strings.Join(sealed, ", "))
	r.Fence = "seal"
	if err != nil {
		r.Fence = ""
		text = fmt.Sprintf("forced without a fence: %v; a master that still runs may go on to acknowledge what will be lost", err)
	}
	return f.write(o, r, text)
}

// sealMasters seals every vBucket at its owner, and notes the indexes in r. It returns the
// masters that it has sealed.
func (f *Founder) sealMasters(ctx context.Context, r *Record) (sealed []string, err error) {
	if len(r.Masters) == 0 {
		return nil, errors.New("none is known here; set repl-master-addr, or wait until the registry names one")
	}
	asked := map[string]bool{}
	var errs []error
	for len(asked) < len(r.Masters) {
		for _, address := range slices.Clone(r.Masters) {
			if asked[address] {
				continue
			}
			asked[address] = true
			found, err := f.sealMaster(ctx, address, r)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", address, err))
				continue
			}
			sealed = append(sealed, address)
			r.Masters = union(r.Masters, found.Masters)
		}
	}
	for name, cut := range r.Cuts {
		switch {
		case cut.Seal != 0:
		case len(errs) > 0:
			return sealed, errs[0]
		default:
			return sealed, fmt.Errorf("vBucket %s: none of %s owns its log", name, strings.Join(r.Masters, ", "))
		}
	}
	return sealed, nil
}

func (f *Founder) sealMaster(ctx context.Context, address string, r *Record) (SealedDatabase, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	found, err := f.opts.Masters.Seal(ctx, address, r.ID)
	f.untouched[address] = err != nil && kv.OutcomeOf(err) == kv.NotApplied
	if err != nil {
		return found, err
	}
	for _, v := range found.VBuckets {
		cut, known := r.Cuts[v.Name]
		if !known || cut.Former != v.History {
			return found, fmt.Errorf("vBucket %s has the history %s there and %s here: this slave has to follow it first; see dkvctl -status", v.Name, v.History, cut.Former)
		}
		cut.Seal = max(cut.Seal, v.Index)
		r.Cuts[v.Name] = cut
	}
	return found, nil
}

// sealCopies gets the last changes of masters that are sealed, and seals the own copies.
func (f *Founder) sealCopies(ctx context.Context, o *order, r Record) error {
	if err := f.awaitSeals(ctx, r); err != nil && !r.Force {
		return kv.Errorf(kv.Precondition, "the last changes of the masters did not arrive: %w; %s. "+
			"Bring the master back and try again, or promote with -force and lose them", err, f.missing(&r))
	}
	if err := f.opts.Copies.Seal(ctx, r.ID); err != nil {
		return fmt.Errorf("seal this slave's copies: %w", err)
	}
	cuts := map[string]Cut{}
	var lost uint64
	for _, p := range f.opts.Copies.Positions() {
		cut := r.Cuts[p.VBucket]
		cut.End, cut.Clock = p.Index, p.Clock
		lost += cut.Seal - min(cut.Seal, cut.End)
		cuts[p.VBucket] = cut
	}
	r.Cuts, r.Step = cuts, Sealed
	text := "this slave has all that was acknowledged"
	switch {
	case lost > 0:
		text = fmt.Sprintf("this slave lacks up to %d entries, which are lost", lost)
	case r.Fence == "":
		text = "this slave takes nothing more of the old history; what it has not received is lost: " + f.missing(&r)
	}
	return f.write(o, r, text)
}

// awaitSeals waits until the copies have all that the masters have acknowledged.
func (f *Founder) awaitSeals(ctx context.Context, r Record) error {
	ctx, cancel := context.WithTimeout(ctx, awaitPatience)
	defer cancel()
	for name, cut := range r.Cuts {
		if cut.Seal == 0 {
			continue
		}
		if err := f.opts.Copies.Await(ctx, name, cut.Seal); err != nil {
			return fmt.Errorf("vBucket %s is not at %d: %w", name, cut.Seal, err)
		}
	}
	return nil
}

// missing says what the copies are known to lack; r is nil if no seal is known.
func (f *Founder) missing(r *Record) string {
	var lag uint64
	var age time.Duration
	for _, p := range f.opts.Copies.Positions() {
		behind := p.Lag
		if r != nil {
			seal := r.Cuts[p.VBucket].Seal
			behind = max(behind, seal-min(seal, p.Index))
		}
		lag, age = lag+behind, max(age, p.Age)
	}
	return fmt.Sprintf("at least %d changes are missing here, and this copy was last known to be complete %s ago", lag, age.Round(100*time.Millisecond))
}

// giveUp ends a promotion that cannot go on, and returns why.
func (f *Founder) giveUp(ctx context.Context, o *order, reason error) error {
	r := *f.record
	r.Step = Abandoning
	if f.own == r.ID {
		r.Masters = slices.DeleteFunc(slices.Clone(r.Masters), func(m string) bool { return f.untouched[m] })
	}
	f.own = "" // what is sealed from here on is not counted
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return errors.Join(reason, err)
	}
	if err := f.release(ctx); err != nil {
		return fmt.Errorf("%w; it is given up, but a master may still be sealed until it can be reached: %w", reason, err)
	}
	return reason
}

// abandon gives a promotion up because an operator wants it.
func (f *Founder) abandon(ctx context.Context, o *order) error {
	if f.record == nil {
		return kv.Errorf(kv.Precondition, "no promotion of this node is under way, so there is none to abandon")
	}
	r := *f.record
	r.Step = Abandoning
	if err := f.write(o, r, "the promotion is given up"); err != nil {
		return err
	}
	return f.release(ctx)
}

// release ends the seals of a promotion that is given up, and forgets it once all have
// ended.
func (f *Founder) release(ctx context.Context) error {
	r := *f.record
	if err := f.opts.Copies.Unseal(ctx, r.ID); err != nil {
		return fmt.Errorf("unseal this slave's copies: %w", err)
	}
	var errs []error
	var left []string
	for _, address := range r.Masters {
		if err := f.unsealMaster(ctx, address, r.ID); err != nil {
			left, errs = append(left, address), append(errs, fmt.Errorf("%s: %w", address, err))
		}
	}
	if len(left) > 0 {
		r.Masters = left
		if err := r.Write(f.opts.Dir); err != nil {
			return err
		}
		f.set(&r)
		return errors.Join(errs...)
	}
	if err := remove(f.opts.Dir); err != nil {
		return err
	}
	f.set(nil)
	return nil
}

func (f *Founder) unsealMaster(ctx context.Context, address, promotion string) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return f.opts.Masters.Unseal(ctx, address, promotion)
}

// write makes a record durable, and reports it.
func (f *Founder) write(o *order, r Record, text string) error {
	if err := r.Write(f.opts.Dir); err != nil {
		return err
	}
	f.set(&r)
	f.opts.Log.Info(text, "promotion", r.ID, "step", string(r.Step), "era", r.Era)
	if o.report != nil && o.ctx.Err() == nil {
		_ = o.report(Progress{Step: r.Step, Text: text, Era: r.Era}) // the caller has gone; its promotion goes on
	}
	return nil
}

func (f *Founder) set(r *Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.record = r
}

// Under returns what is under way, in a sentence; empty for nothing.
func (f *Founder) Under() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.record == nil:
		return ""
	case f.record.Step == Abandoning:
		return fmt.Sprintf("a promotion was given up, and %s may still be sealed by it", strings.Join(f.record.Masters, ", "))
	default:
		return fmt.Sprintf("a promotion to era %d is %s (dkvctl -promote goes on with it, -promote -abandon ends it)", f.record.Era, f.record.Step)
	}
}

// union returns the addresses of both, each once.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, address := range b {
		if !slices.Contains(out, address) {
			out = append(out, address)
		}
	}
	return out
}
