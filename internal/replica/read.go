package replica

import (
	"context"
	"errors"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A log of one has nobody to be behind of: its state is the newest there is,
// so both levels read it as it is, and its age is 0.

// now is the clock that hides expired keys and that goes into the log: the wall
// clock, but never behind the log's or what it said before, so that what has
// expired stays so.
func (l *Local) now(m *fsm.Machine) kv.Clock {
	now := max(uint64(kv.ClockOf(l.opts.Now())), uint64(m.Clock()))
	for {
		last := l.lastClock.Load()
		if now <= last {
			return kv.Clock(last)
		}
		if l.lastClock.CompareAndSwap(last, now) {
			return kv.Clock(now)
		}
	}
}

// read calls f with the present machine, again where the machine was replaced
// in between.
func (l *Local) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if opts.MinIndex > l.machine.Load().Applied() {
		applied, err := l.progress.wait(ctx, l.closing, opts.MinIndex)
		switch {
		case errors.Is(err, errQueueClosed):
			return kv.ReadInfo{}, errClosed
		case err != nil:
			return kv.ReadInfo{}, kv.Errorf(kv.Precondition,
				"index %d is not applied here yet, only %d: %w", opts.MinIndex, applied, err)
		}
	}
	for {
		m := l.machine.Load()
		info := kv.ReadInfo{Index: m.Applied()}
		err := f(m)
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, fsm.ErrClosed) {
			return kv.ReadInfo{}, ReadError(err)
		}
		if err := l.awaitReplacement(ctx, m); err != nil {
			return kv.ReadInfo{}, err
		}
	}
}

// awaitReplacement waits until another machine stands in the place of m.
func (l *Local) awaitReplacement(ctx context.Context, m *fsm.Machine) error {
	for {
		l.mu.Lock()
		replaced, closed := l.replaced, l.closed
		l.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case l.machine.Load() != m:
			return nil
		}
		select {
		case <-replaced:
		case <-l.closing:
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "storage is being reopened: %w", ctx.Err())
		}
	}
}

// ReadError turns an error from an iterator of a View into a kv.Error.
func ReadError(err error) error {
	if err == nil {
		return nil
	}
	var known *kv.Error
	if errors.As(err, &known) {
		return err
	}
	return kv.Errorf(kindOf(err), "read: %w", err)
}

// Get implements Replica.
func (l *Local) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (pair kv.Pair, found bool, info kv.ReadInfo, err error) {
	info, err = l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pair, found, err = m.Get(key, l.now(m))
		return err
	})
	return pair, found, info, err
}

// MultiGet implements Replica.
func (l *Local) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) (pairs []kv.Pair, info kv.ReadInfo, err error) {
	info, err = l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pairs, err = m.MultiGet(keys, l.now(m))
		return err
	})
	return pairs, info, err
}

// View implements Replica.
func (l *Local) View(ctx context.Context, opts kv.ReadOptions) (View, kv.ReadInfo, error) {
	var v *fsm.View
	var now kv.Clock
	_, err := l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		v, err = m.View()
		now = l.now(m) // behind the view's clock at no time
		return err
	})
	if err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return localView{View: v, now: now}, kv.ReadInfo{Index: v.Index()}, nil
}

// localView reads an fsm.View as of one moment.
type localView struct {
	*fsm.View
	now kv.Clock
}

func (v localView) MultiGet(keys [][]byte) ([]kv.Pair, error) { return v.View.MultiGet(keys, v.now) }

func (v localView) Iterate(r storage.Range) *fsm.Iterator { return v.View.Iterate(r, v.now) }

// Changes implements Replica.
func (l *Local) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (out fsm.Changes, err error) {
	_, err = l.read(ctx, kv.ReadOptions{}, func(m *fsm.Machine) (err error) {
		out, err = m.Changes(from, limit, maxBytes)
		return err
	})
	return out, err
}
