package drill

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/drill/history"
	"github.com/dkvdb/dkv/internal/ctl/drill/load"
	"github.com/dkvdb/dkv/internal/ctl/progress"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// before and after are how long the load runs without the fault.
	before, after = time.Second, 2 * time.Second
	// firstWithin is how long the load may take until each kind of request is served.
	firstWithin = 30 * time.Second
	// removeWithin bounds the removal of the keys; what is left expires.
	removeWithin = time.Minute
	look         = 50 * time.Millisecond
)

// Run is a drill that is being run.
type Run struct {
	*Scenario
	Promise Promise
	Load    *load.Load
	// Node is the name of the node with the fault, and Slaves are those that are read.
	Node   string
	Slaves []string
	// Lasts is how long the fault is to last.
	Lasts time.Duration
	// Inject gives the node the fault, calls began with what it says of it, and returns when
	// the fault has ended.
	Inject func(ctx context.Context, began func(text string)) error
	// CaughtUp waits until the node has caught up, and returns false if it does not.
	CaughtUp func(ctx context.Context) bool

	phase atomic.Pointer[phase]
}

// phase is what the run does at this moment.
type phase struct {
	text  string
	since time.Time
	lasts time.Duration // 0 if it is not known
	// done counts keys, of which there are total.
	done  *atomic.Uint64
	total uint64
}

// Progress returns how far the run is.
func (r *Run) Progress() progress.State {
	p := r.phase.Load()
	if p == nil {
		return progress.State{}
	}
	if p.done != nil {
		return progress.State{Text: p.text, Done: p.done.Load(), Total: p.total}
	}
	elapsed := time.Since(r.phase.Load().since)
	rate := float64(r.Load.Served(history.Put)+r.Load.Served(history.Get)) / max(r.Load.Now().Seconds(), 1)
	text := fmt.Sprintf("%s: %.0f writes and linearizable reads a second so far", p.text, rate)
	if left := p.lasts - elapsed; left > 0 {
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return progress.State{Text: text}
}

func (r *Run) enter(p phase) {
	p.since = time.Now()
	r.phase.Store(&p)
}

// Run runs the drill: load, fault, load, and then every key is read back and removed. If ctx
// ends, the fault is ended and the keys are removed.
func (r *Run) Run(ctx context.Context) (_ *Report, err error) {
	loading, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.Load.Run(loading) }()
	o, err := r.underLoad(ctx)
	stop()
	o.Stopped = r.Load.Now()
	r.enter(phase{text: "the last requests end"})
	<-stopped
	defer func() {
		err = errors.Join(err, r.remove(ctx))
	}()
	if err != nil {
		return nil, err
	}
	newest := r.Load.Acknowledged()
	done := new(atomic.Uint64)
	r.enter(phase{text: "reading back what was acknowledged", done: done, total: uint64(len(newest))})
	if o.Lost, err = r.Load.ReadBack(ctx, done); err != nil {
		return nil, err
	}
	return r.Judge(r.Promise, r.Load.Ops(), o), nil
}

// underLoad gives the node the fault while the load runs.
func (r *Run) underLoad(ctx context.Context) (o Outcome, err error) {
	o = Outcome{Node: r.Node, Slaves: r.Slaves}
	r.enter(phase{text: "the load begins", lasts: before})
	if err := r.served(ctx); err != nil {
		return o, err
	}
	if !sleep.For(ctx, before) {
		return o, ctx.Err()
	}
	err = r.Inject(ctx, func(text string) {
		o.Begun, o.Fault = r.Load.Now(), text
		r.enter(phase{text: text, lasts: r.Lasts})
	})
	o.Ended = r.Load.Now()
	if err != nil {
		return o, err
	}
	r.enter(phase{text: "the fault is over, and the load goes on", lasts: after})
	waiting, cancel := context.WithCancel(ctx)
	caughtUp := make(chan time.Duration, 1)
	go func() {
		defer cancel()
		back := time.Duration(-1)
		if r.CaughtUp(waiting) {
			back = r.Load.Now() - o.Ended
		}
		caughtUp <- back
	}()
	ran := sleep.For(ctx, after) && r.recovers(ctx, o.Begun)
	o.Back = <-caughtUp
	cancel()
	if !ran {
		return o, ctx.Err()
	}
	return o, nil
}

// recovers waits until all clients were served since the fault began, or the promise is broken.
func (r *Run) recovers(ctx context.Context, begun time.Duration) bool {
	for r.Load.Now()-begun <= r.Promise.Keys {
		stuck := 0
		for _, kind := range []history.Kind{history.Put, history.Get} {
			stuck += history.GapOf(r.Load.Ops(), kind, "", begun, r.Load.Now()).Stuck
		}
		if stuck == 0 {
			return true
		}
		if !sleep.For(ctx, look) {
			return false
		}
	}
	return true
}

// served waits until each kind of request has been served.
func (r *Run) served(ctx context.Context) error {
	kinds := []history.Kind{history.Put, history.Get}
	if len(r.Slaves) > 0 {
		kinds = append(kinds, history.Sequential)
	}
	for _, kind := range kinds {
		for r.Load.Served(kind) == 0 {
			if r.Load.Now() > firstWithin {
				return fmt.Errorf("no %s was served within %s, so there is nothing to drill: see dkvctl -status and -doctor", titles[kind], firstWithin)
			}
			if !sleep.For(ctx, look) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// remove removes the keys, also if the drill was interrupted.
func (r *Run) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	done := new(atomic.Uint64)
	r.enter(phase{text: "removing the keys of the drill", done: done, total: uint64(len(r.Load.Keys()))})
	return r.Load.Remove(ctx, done)
}
