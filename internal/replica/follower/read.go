package follower

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/sleep"
)

// freshness is when the state was last known to be the newest. Readers wait for it to grow.
type freshness struct {
	mu     sync.Mutex
	newest time.Time
	// later is raised when newest grows.
	later signal.Signal
}

func (f *freshness) confirm(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !at.After(f.newest) {
		return
	}
	f.newest = at
	f.later.Raise()
}

// forget notes that nothing is known about the present state.
func (f *freshness) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = time.Time{}
}

// age is the time since newest, with that for which the machine was suspended.
func (f *freshness) age() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since()
}

func (f *freshness) since() time.Duration {
	if f.newest.IsZero() {
		return replica.NeverFresh
	}
	return max(sleep.Since(f.newest), 0)
}

// wait returns the age once it is at most wanted, or what it is when ctx ends or
// closing is closed.
func (f *freshness) wait(ctx context.Context, closing <-chan struct{}, wanted time.Duration) (time.Duration, error) {
	for {
		f.mu.Lock()
		age := f.since()
		if age <= wanted {
			f.mu.Unlock()
			return age, nil
		}
		later := f.later.Changed()
		f.mu.Unlock()
		select {
		case <-later:
		case <-closing:
			return age, replica.ErrClosed
		case <-ctx.Done():
			return age, ctx.Err()
		}
	}
}

// Fresh notes that the present state contains everything that was in the log at a time.
func (f *Replica) Fresh(at time.Time) { f.fresh.confirm(at) }

// Age implements Replica. What is known of the state's age is not true of an earlier one that was
// found after a failure, until that is back where it was.
func (f *Replica) Age() time.Duration {
	if f.state.Machine().Applied() < f.least.Load() {
		return replica.NeverFresh
	}
	return f.fresh.age()
}

// Wanted holds a token when a reader waits for a newer state. It is filled again while the
// reader waits.
func (f *Replica) Wanted() <-chan struct{} { return f.wanted }

func (f *Replica) want() {
	select {
	case f.wanted <- struct{}{}:
	default:
	}
}

const (
	// A reader that still waits asks again, since the answer may have come from a master
	// that lags: soon at first, then less and less often.
	firstWant = 25 * time.Millisecond
	maxWant   = time.Second
)

// wanting calls wait, which waits for a newer state until its context ends, and asks for
// one meanwhile.
func (f *Replica) wanting(ctx context.Context, wait func(context.Context) error) error {
	place := kv.PlaceOf(ctx)
	if err := place.Park(); err != nil {
		return err
	}
	defer place.Unpark()
	ctx, cancel := context.WithTimeout(ctx, state.MaxIndexWait)
	defer cancel()
	for pause := firstWant; ; pause = min(2*pause, maxWant) {
		f.want()
		limited, done := context.WithTimeout(ctx, pause)
		err := wait(limited)
		done()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

// read calls fn with the state once it is as new as opts ask for.
func (f *Replica) read(ctx context.Context, opts kv.ReadOptions, fn func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if opts.Level == kv.Linearizable {
		if f.reject {
			return kv.ReadInfo{}, f.notHere(" that answers no linearizable reads", "send them to")
		}
		return kv.ReadInfo{}, replica.ErrNotOwner
	}
	if err := f.state.Held(opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	if least := max(opts.MinIndex, f.least.Load()); least > f.state.Machine().Applied() {
		if err := f.wanting(ctx, func(ctx context.Context) error { return f.state.AwaitIndex(ctx, least) }); err != nil {
			return kv.ReadInfo{}, err
		}
	}
	// It is taken before the state, which may be newer by then.
	age, err := f.awaitAge(ctx, opts.MaxAge)
	if err != nil {
		return kv.ReadInfo{}, err
	}
	if f.empty() {
		return kv.ReadInfo{}, errNoState
	}
	info, err := f.state.With(ctx, func(m *fsm.Machine) error {
		if m.Applied() < f.least.Load() {
			return errEarlier // it was reopened in between
		}
		if err := fn(m); err != nil {
			return err
		}
		return f.state.Held(opts.MinIndex) // again: a promotion may have ended its history meanwhile
	})
	info.Age = age
	return info, err
}

var errEarlier = kv.Errorf(kv.Unavailable, "the state is being brought up to where it was; retry")

// awaitAge returns the age of the state once it is at most wanted (0: any age).
func (f *Replica) awaitAge(ctx context.Context, wanted time.Duration) (time.Duration, error) {
	age := f.fresh.age()
	if wanted == 0 || age <= wanted {
		return age, nil
	}
	err := f.wanting(ctx, func(ctx context.Context) (err error) {
		age, err = f.fresh.wait(ctx, f.state.Closing(), wanted)
		return err
	})
	switch {
	case errors.Is(err, replica.ErrClosed):
		return 0, replica.ErrClosed
	case kv.KindOf(err) == kv.Exhausted:
		return 0, err
	case err != nil:
		return 0, kv.Errorf(kv.Precondition, "the state here is %v old, and at most %v is asked for: %w",
			age.Round(time.Millisecond), wanted, err)
	}
	return age, nil
}

// Changes implements Replica.
func (f *Replica) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	if f.empty() {
		return fsm.Changes{}, errNoState
	}
	return f.Shared.Changes(ctx, from, limit, maxBytes)
}
