package promotion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// callPatience bounds a call to a master. One that answers no sooner is unreachable.
	callPatience = 5 * time.Second
	// awaitPatience is how long the founder may take to get the last changes of masters
	// that are sealed.
	awaitPatience = 30 * time.Second
	// sealPause is how long to wait before copies are asked again that cannot be sealed yet.
	sealPause = 200 * time.Millisecond
	// unsealPause is how long to wait before masters are asked again to serve on, at first
	// and at most.
	unsealPause, maxUnsealPause = time.Second, 10 * time.Second
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
	// Set reaches the other nodes of a promotion of several slaves.
	Set Set
	// Registry keeps the record of the database; nil if this node asks none.
	Registry Registry
	// Unfit returns why the node could not be a master, as its configuration is; nil is not asked.
	Unfit func() error
	Log   *slog.Logger
}

// Founder promotes its node, alone or with others, when it is told to, and goes on with a promotion that a crash
// has interrupted.
type Founder struct {
	opts Options
	// orders holds what Run has to do next.
	orders chan *order
	// ended is closed when Run has returned.
	ended chan struct{}

	// own is the promotion that this process has begun, and untouched the masters that it
	// has certainly not sealed. What an earlier process has sealed is not known.
	own       string
	untouched map[string]bool
	// trusted is until when the seals that this process has made count without an answer of the
	// masters, by lease.SystemClock; 0 for none.
	trusted time.Duration

	// ending is why a promotion is to be given up, or was; nil for one that goes on.
	ending error

	failed, abandoned atomic.Uint64

	mu sync.Mutex
	// record is the promotion that is under way; nil for none. Run replaces it.
	record *Record
}

// Request is what an operator wants.
type Request struct {
	// Force promotes although the masters cannot be sealed, or changes are missing.
	Force bool
	// Planned wants nothing else than masters that can be sealed, which become slaves at
	// once.
	Planned bool
	// With are where the other slaves that become masters serve gRPC, host:port.
	With []string
	// Abandon gives up a promotion that is not decided.
	Abandon bool
	// Standby replaces masters that the registry has stopped granting leases to: none is
	// sealed.
	Standby bool
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
	// become is the promotion of another node that is decided, and admits returns why this
	// node cannot be a part of it; nil for a request.
	become *Record
	admits func() error
	ctx    context.Context
	report func(Progress) error
	done   chan error
}

// NewFounder makes the founder of a node with what Of has found.
func NewFounder(opts Options, found *Record) *Founder {
	return &Founder{opts: opts, orders: make(chan *order), ended: make(chan struct{}), untouched: map[string]bool{}, record: found}
}

// Promote does what a request says, while Run runs, and reports each step. It returns when
// the promotion is decided or given up. If ctx ends before, the promotion goes on.
func (f *Founder) Promote(ctx context.Context, r Request, report func(Progress) error) error {
	return f.order(ctx, &order{Request: r, ctx: ctx, report: report, done: make(chan error, 1)})
}

// Become makes this node one of the masters of a promotion of another node, which is decided,
// unless admits returns an error. When it returns nil, that is on disk, and Run ends.
func (f *Founder) Become(ctx context.Context, r Record, admits func() error) error {
	return f.order(ctx, &order{become: &r, admits: admits, ctx: ctx, done: make(chan error, 1)})
}

func (f *Founder) order(ctx context.Context, o *order) error {
	select {
	case f.orders <- o:
	case <-f.ended:
		return errEnded
	case <-ctx.Done():
		return kv.Errorf(kv.Unavailable, "another promotion of this node is under way: %w", ctx.Err())
	}
	select {
	case err := <-o.done:
		return err
	case <-f.ended:
		select {
		case err := <-o.done: // it was the last
			return err
		default:
			return errEnded
		}
	case <-ctx.Done():
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the promotion goes on: %w; ask for it again to see how far it is", ctx.Err()))
	}
}

var errEnded = kv.Errorf(kv.Unavailable, "this node is stopping, or becomes something else; ask dkvctl -status what it is, and try again if it is still a slave")

// Ended returns how many promotions have failed since the start, and how many were given up by an
// operator.
func (f *Founder) Ended() (failed, abandoned uint64) { return f.failed.Load(), f.abandoned.Load() }

// Run does what it is told until ctx ends. It returns ErrDecided once the node is to become
// a master.
func (f *Founder) Run(ctx context.Context) error {
	defer close(f.ended)
	if err := f.goOn(ctx); err != nil {
		return err
	}
	said := "" // of nodes that may still be sealed: some may never answer
	for pause := unsealPause; ctx.Err() == nil; {
		var again <-chan time.Time
		if f.record != nil && f.record.Step == Abandoning {
			if err := f.release(ctx); err != nil && ctx.Err() == nil {
				if text := err.Error(); text != said {
					said = text
					f.opts.Log.Warn("nodes may still be sealed by a promotion that was given up; they are asked until they have answered", "nodes", f.record.mayBeSealed(), "error", err)
				}
				again = time.After(pause)
			}
		}
		if f.record.Under() && (f.ending != nil || f.record.Step == Claiming || f.record.Sealed()) {
			again = time.After(pause) // the era may be given, and no one else claims it; or masters are back
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			pause = min(2*pause, maxUnsealPause)
			if err := f.goOn(ctx); err != nil {
				return err
			}
		case o := <-f.orders:
			pause = unsealPause // what it leaves is new, however many orders there were before
			if err := f.take(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOn goes on with a promotion that has begun and is not decided, if there is one.
func (f *Founder) goOn(ctx context.Context) error {
	switch {
	case !f.record.Under():
		return nil
	case f.ending != nil:
		if err := f.giveUp(ctx, new(order), f.ending); f.record.Under() && ctx.Err() == nil {
			f.opts.Log.Warn("a promotion cannot be given up yet", "error", err)
		}
		return nil
	}
	return f.take(ctx, &order{Request: Request{Force: f.record.Force, Planned: f.record.Planned, Standby: f.record.Standby}, done: make(chan error, 1)})
}

// take does what an order says and answers it. Its error ends Run.
func (f *Founder) take(ctx context.Context, o *order) error {
	err := f.do(ctx, o)
	if errors.Is(err, ErrDecided) {
		o.done <- nil
		return err
	}
	switch {
	case err == nil && o.Abandon:
		f.abandoned.Add(1)
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, errUnconfirmed):
		f.opts.Log.Warn("the promotion waits", "reason", err)
	default:
		f.failed.Add(1)
		f.opts.Log.Error("the promotion has failed", "error", err)
	}
	o.done <- err
	return nil
}

func (f *Founder) do(ctx context.Context, o *order) error {
	switch {
	case o.become != nil:
		return f.become(o)
	case o.Abandon:
		return f.abandon(ctx, o)
	}
	if err := f.admit(ctx); err != nil {
		return err
	}
	if err := f.begin(ctx, o); err != nil {
		return err
	}
	f.ending = nil
	for {
		err := f.next(ctx, o)
		switch {
		case errors.Is(err, ErrDecided):
			return err
		case err != nil && ctx.Err() == nil && f.record.Step == Claiming && !errors.Is(err, errNever):
			return err // the era may be given, so that nothing is unsealed
		case errors.Is(err, errUnconfirmed) && ctx.Err() == nil:
			return err
		case err != nil && ctx.Err() != nil:
			return kv.Errorf(kv.Unavailable, "the node is stopping; the promotion goes on when it starts again: %w", err)
		case err != nil:
			return f.giveUp(ctx, o, err)
		}
	}
}

// admit rejects what can never become a master.
func (f *Founder) admit(ctx context.Context) error {
	if f.opts.Dir == "" {
		return kv.Errorf(kv.Precondition, "this slave is diskless: what it acknowledged as a master would be lost with the process; promote a slave with a disk")
	}
	if f.opts.Unfit != nil && !f.record.Under() {
		if err := f.opts.Unfit(); err != nil {
			return kv.Errorf(kv.Precondition, "this slave could not be a master: %w; mend that first, or promote another slave", err)
		}
	}
	positions, err := f.opts.Copies.Reached(ctx)
	if err != nil {
		return err
	}
	for _, p := range positions {
		switch {
		case p.History == "":
			return kv.Errorf(kv.Precondition, "vBucket %s has no data yet: this slave has not bootstrapped; wait for dkvctl -status to show it alive, or promote another slave", p.VBucket)
		case p.Sealed != "" && !f.sealedBy(p.Sealed):
			return kv.Errorf(kv.Precondition, "a promotion of another node has sealed vBucket %s here; end that with dkvctl -promote -abandon on its founder, or here if that is gone for good", p.VBucket)
		}
	}
	return nil
}

// sealedBy reports whether a seal is of a promotion of this node that has not been told everywhere.
func (f *Founder) sealedBy(promotion string) bool {
	return f.record != nil && slices.ContainsFunc(f.record.left(), func(l Left) bool { return l.ID == promotion })
}

// become writes down that this node becomes a master by a promotion of another node.
func (f *Founder) become(o *order) error {
	if f.record.Under() {
		return kv.Errorf(kv.Precondition, "this node has a promotion of its own: %s", f.Under())
	}
	if err := o.admits(); err != nil {
		return kv.Errorf(kv.Precondition, "%w", err)
	}
	r := *o.become
	if f.record != nil { // it was given up, and what may still be sealed by it is released by a master
		r.Earlier = f.record.left()
	}
	if err := f.write(o, r, "a promotion of another node is decided: this node becomes one of the masters"); err != nil {
		return err
	}
	return ErrDecided
}

// begin writes down that a promotion has begun, or goes on with the one that there is.
func (f *Founder) begin(ctx context.Context, o *order) error {
	if f.record.Under() {
		again := *f.record
		again.Force, again.Standby = again.Force || o.Force, o.Standby
		if o.Planned && again.Fence != fencedBySeal && again.Step != Begun {
			return kv.Errorf(kv.Precondition, "a promotion that is not planned is under way, and has gone on without sealing the masters (not applied); give it up with dkvctl -promote -abandon first")
		}
		again.Planned = (again.Planned || o.Planned) && !again.Force && !again.Standby
		if len(o.With) > 0 && !sameNodes(again.Nodes, o.With) {
			return kv.Errorf(kv.Precondition, "a promotion with other nodes is under way (%s); give it up with dkvctl -promote -abandon first", strings.Join(again.Addresses(), ", "))
		}
		return f.write(o, again, "a promotion of this node goes on")
	}
	if f.record != nil {
		// Masters may serve again, and this copy may follow another history by now: no seal
		// counts that was made before. The new one has another id, so that what is still on
		// its way for the former cannot end its seals.
		if err := f.leave(ctx, o); err != nil {
			return err
		}
	}
	r := f.fresh(o.Request)
	f.look(ctx, &r)
	if f.record != nil {
		r.Earlier = f.record.left()
	}
	if err := f.gather(ctx, &r, o.With); err != nil {
		return err
	}
	f.own, f.untouched, f.trusted = r.ID, map[string]bool{}, 0
	for _, address := range union(r.Masters, r.Untold) {
		f.untouched[address] = true
	}
	return f.write(o, r, "the promotion to era "+fmt.Sprint(r.Era)+" has begun")
}

// fresh returns a promotion that begins with the present copies.
func (f *Founder) fresh(o Request) Record {
	r := Record{ID: kv.NewID(), Step: Begun, Force: o.Force, Planned: o.Planned, Standby: o.Standby, Masters: f.opts.Masters.Known(), Cuts: map[string]Cut{}}
	for _, p := range f.opts.Copies.Positions() {
		r.Cuts[p.VBucket] = Cut{Former: p.History}
		r.Era = max(r.Era, era.Of(p.History)+1)
	}
	r.History = era.History(r.Era, kv.NewID())
	return r
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
		if len(r.Nodes) > 1 {
			return f.equal(ctx, o, r)
		}
		return f.decide(ctx, o, r)
	case Equal, Claiming:
		return f.decide(ctx, o, r)
	default:
		f.tell(ctx, o)
		return ErrDecided
	}
}

// decide is the point from which on there is no way back.
func (f *Founder) decide(ctx context.Context, o *order, r Record) error {
	if err := f.awaitEra(ctx, o, &r); err != nil {
		return err
	}
	r.Step = Decided
	if len(r.Nodes) > 0 {
		r.Replica = 1
	}
	if len(r.Nodes) <= 1 {
		return f.write(o, r, fmt.Sprintf("the promotion is decided: this node becomes the master of era %d", r.Era))
	}
	return f.write(o, r, fmt.Sprintf("the promotion is decided: %s become the masters of era %d", strings.Join(r.Addresses(), ", "), r.Era))
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

// Busy is Under for a promotion that is not given up: the node can be part of no other one. One that
// was given up may have nodes left that never answer, and nothing of it holds here.
func (f *Founder) Busy() string {
	f.mu.Lock()
	under := f.record.Under()
	f.mu.Unlock()
	if !under {
		return ""
	}
	return f.Under()
}

// Under returns what is under way, in a sentence; empty for nothing.
func (f *Founder) Under() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.record == nil:
		return ""
	case f.record.Step == Abandoning:
		return fmt.Sprintf("a promotion was given up, and %s may still be sealed by it", strings.Join(f.record.mayBeSealed(), ", "))
	default:
		return fmt.Sprintf("a promotion to era %d is %s (dkvctl -promote goes on with it, -promote -abandon ends it)", f.record.Era, f.record.Step)
	}
}
