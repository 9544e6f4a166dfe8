package replica

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// now is the clock that hides expired keys and that goes into the log: this node's,
// but never behind the log's. Neither goes back, unless the log's clock is set.
func (c *core) now(s clocked) kv.Clock {
	return max(kv.ClockOf(c.opts.Clock.Now()), s.Clock())
}

// clocked is a state with the log's clock at it: the present one, or a view.
type clocked interface{ Clock() kv.Clock }

// lookup is a state to look keys up in.
type lookup interface {
	clocked
	Get(key []byte, now kv.Clock) (kv.Pair, bool, error)
	MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error)
}

// exactly calls look with the present state and returns its index. While a batch is
// being written the engine may show it already or not yet: look is called again then,
// with a view, which costs more and is of one index for certain. An index that is too
// low would let the next read, which waits for it on another replica, go back; one that
// is too high would have those who follow the changes from there miss some.
func exactly(m *fsm.Machine, look func(lookup) error) (kv.Index, error) {
	at := m.Applied()
	if err := look(m); err != nil || m.StandsAt(at) {
		return at, err
	}
	v, err := m.View()
	if err != nil {
		return 0, err
	}
	defer v.Close()
	return v.Index(), look(v)
}

// Now implements Replica.
func (c *core) Now() time.Time { return c.opts.Clock.Now() }

// with calls f with the present machine, again where the machine was replaced
// in between.
func (c *core) with(ctx context.Context, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	trace := kv.TraceOf(ctx)
	defer trace.Read(trace.Start())
	for {
		m := c.machine.Load()
		var info kv.ReadInfo
		err := c.opts.Reads.do(ctx, func() error {
			info.Index = m.Applied()
			return f(m)
		})
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, fsm.ErrClosed) {
			return kv.ReadInfo{}, ReadError(err)
		}
		if err := c.awaitReadable(ctx, m); err != nil {
			return kv.ReadInfo{}, err
		}
	}
}

// awaitReadable waits until m, which turned a read away, or what is in its place
// can be read.
func (c *core) awaitReadable(ctx context.Context, m *fsm.Machine) error {
	for {
		c.mu.Lock()
		changed, closed, unreadable := c.changed, c.closed, c.unreadable
		c.mu.Unlock()
		switch {
		case closed:
			return errClosed
		case c.machine.Load() != m || m.Readable():
			return nil
		case unreadable != nil:
			return kv.Errorf(kv.Unavailable, "nothing can be read until storage opens again: %w", unreadable)
		}
		select {
		case <-changed:
		case <-c.closing:
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "storage is being reopened: %w", ctx.Err())
		}
	}
}

// Readable tells whether reads are served. Unlike Status it costs next to
// nothing.
func (c *core) Readable() bool {
	switch c.State() {
	case Starting, Removed, Closed:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unreadable == nil
}

// maxIndexWait bounds the wait for an index where the caller sets no deadline: a
// request that waits takes the place of another.
const maxIndexWait = 10 * time.Second

// maxIndexAhead is how far an index may be ahead of the state for a read to wait for
// it. A node that is further behind does not catch up while a caller waits; what is
// more likely is an index that was made up, or is of another log.
const maxIndexAhead = 1 << 20

// awaitIndex waits until index is applied. The request takes no place in flight
// meanwhile.
func (c *core) awaitIndex(ctx context.Context, index kv.Index) error {
	applied := c.machine.Load().Applied()
	if index <= applied {
		return nil
	}
	if index-applied > maxIndexAhead {
		return kv.Errorf(kv.Precondition, "index %d is far ahead of what is applied here, %d; ask another node, or read without an index if it is one of another log", index, applied)
	}
	place := kv.PlaceOf(ctx)
	if err := place.Park(); err != nil {
		return err
	}
	defer place.Unpark()
	ctx, cancel := context.WithTimeout(ctx, maxIndexWait)
	defer cancel()
	applied, err := c.progress.wait(ctx, c.closing, index)
	switch {
	case errors.Is(err, errQueueClosed):
		return errClosed
	case err != nil:
		return kv.Errorf(kv.Precondition, "index %d is not applied here yet, only %d: %w", index, applied, err)
	}
	return nil
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

// read calls f with the present state once it reflects what opts ask for. A log
// of one has nobody to be behind of: its state is the newest there is, so both
// levels read it as it is, and its age is 0. They differ in what has expired.
func (l *Local) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if err := l.awaitIndex(ctx, opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	return l.settled(ctx, func() (kv.ReadInfo, error) { return l.with(ctx, f) })
}

// Get implements Replica.
func (l *Local) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (pair kv.Pair, found bool, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pair, found, at, err = l.get(m, key, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pair, found, info, err
}

// MultiGet implements Replica.
func (l *Local) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) (pairs []kv.Pair, info kv.ReadInfo, err error) {
	var at kv.Index
	info, err = l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		pairs, at, err = l.multiGet(m, keys, opts.Level)
		return err
	})
	if err == nil {
		info.Index = at
	}
	return pairs, info, err
}

// View implements Replica.
func (l *Local) View(ctx context.Context, opts kv.ReadOptions) (View, kv.ReadInfo, error) {
	var v pinned
	_, err := l.read(ctx, opts, func(m *fsm.Machine) (err error) {
		v, err = l.pin(m, opts.Level)
		return err
	})
	if err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return v, kv.ReadInfo{Index: v.Index()}, nil
}

// Changes implements Replica.
func (c *core) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (out fsm.Changes, err error) {
	if c.State() == Removed { // what is here will never be brought up to date
		return out, errRemoved
	}
	_, err = c.with(ctx, func(m *fsm.Machine) (err error) {
		out, err = m.Changes(from, limit, maxBytes)
		return err
	})
	return out, err
}

// pinned reads an fsm.View as of one moment.
type pinned struct {
	*fsm.View
	now kv.Clock
}

func (v pinned) MultiGet(keys [][]byte) ([]kv.Pair, error) { return v.View.MultiGet(keys, v.now) }

func (v pinned) Iterate(r storage.Range) *fsm.Iterator { return v.View.Iterate(r, v.now) }
