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
			// Masters may serve again, and this copy may follow another history by now: no
			// seal counts that was made before.
			again = f.fresh(again.ID, o.Force)
			again.Masters = union(f.record.Masters, again.Masters)
		}
		return f.write(o, again, "a promotion of this node goes on")
	}
	r := f.fresh(kv.NewID(), o.Force)
	f.own, f.untouched = r.ID, map[string]bool{}
	return f.write(o, r, "the promotion to era "+fmt.Sprint(r.Era)+" has begun")
}

// fresh returns a promotion that begins with the present copies.
func (f *Founder) fresh(id string, force bool) Record {
	r := Record{ID: id, Step: Begun, Force: force, Masters: f.opts.Masters.Known(), Cuts: map[string]Cut{}}
	for _, p := range f.opts.Copies.Positions() {
		r.Cuts[p.VBucket] = Cut{Former: p.History}
		r.Era = max(r.Era, standby.Era(p.History)+1)
	}
	r.History = standby.History(r.Era, kv.NewID())
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
		r.Step = Decided
		if err := f.write(o, r, fmt.Sprintf("the promotion is decided: this node becomes the master of era %d", r.Era)); err != nil {
			return err
		}
		return ErrDecided
	default:
		return ErrDecided
	}
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
