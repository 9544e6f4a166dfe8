package state

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// Clock is the time that decides what has expired and that goes into the log: this node's,
// but never behind the log's. It does not go backwards, unless the log's clock is set.
func (c *Store) Clock(s clocked) kv.Clock {
	return max(kv.ClockOf(c.opts.Clock.Now()), s.Clock())
}

// clocked is a state with its log's clock: the present one, or a view.
type clocked interface{ Clock() kv.Clock }

// lookup is a state in which keys are looked up.
type lookup interface {
	clocked
	Get(key []byte, now kv.Clock) (kv.Pair, bool, error)
	MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error)
}

// exactly calls look with the present state and returns its index. While a batch is being
// written the engine may show it already or not yet. Then look is called again with a view,
// which costs more and is of one index for certain. With an index that is too low, the next
// read, which waits for it on another replica, could see an older state; with one that is
// too high, a slave that follows the changes from there would miss some.
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
func (c *Store) Now() time.Time { return c.opts.Clock.Now() }

// With calls f with the present machine, and again if the machine was replaced meanwhile.
func (c *Store) With(ctx context.Context, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	trace := kv.TraceOf(ctx)
	defer trace.Since(kv.Read, trace.Start())
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
			return kv.ReadInfo{}, replica.ReadError(err)
		}
		if err := c.awaitReadable(ctx, m); err != nil {
			return kv.ReadInfo{}, err
		}
	}
}

// Unsealed returns the error of what a seal rejects, or nil if the log is not sealed. A read
// calls it when it has its view: a seal that is applied later leaves the view the newest
// state at a moment while the read was under way.
func (c *Store) Unsealed() error {
	if promotion := c.machine.Load().Sealed(); promotion != "" {
		return replica.Sealed(promotion)
	}
	return nil
}

// awaitReadable waits until m, which rejected a read, or the machine that has replaced it
// can be read.
func (c *Store) awaitReadable(ctx context.Context, m *fsm.Machine) error {
	for {
		c.mu.Lock()
		changed, closed, unreadable := c.changed.Changed(), c.closed, c.unreadable
		c.mu.Unlock()
		switch {
		case closed:
			return replica.ErrClosed
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

// Readable reports whether reads are served. Unlike Status it costs next to nothing.
func (c *Store) Readable() bool {
	switch c.State() {
	case replica.Starting, replica.Removed, replica.Closed:
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unreadable == nil
}

// MaxIndexWait bounds the wait for an index if the caller sets no deadline.
const MaxIndexWait = 10 * time.Second

// maxIndexAhead is how far ahead of the state an index may be for a read to wait for it. A
// node that is further behind does not catch up while a caller waits; more likely the index
// was invented, or is of another log.
const maxIndexAhead = 1 << 20

// maxErasAhead is how many promotions a copy may have missed for a read to wait for them.
const maxErasAhead = 8

// near reports whether a node that is at an index may get to a greater one while a caller waits. By
// how much promotions in between move indexes is no distance; and a copy may have a little more of
// its history than the next one goes on from.
func near(applied, index kv.Index) bool {
	eras, ahead := (index-applied)/era.Gap, (index-applied)%era.Gap
	return eras <= maxErasAhead && min(ahead, era.Gap-ahead) <= maxIndexAhead
}

// Held returns an error if an index that a reader asks for will never be reached, since a
// promotion has ended its history before it.
func (c *Store) Held(index kv.Index) error {
	if index != 0 && c.machine.Load().Lost(index) {
		return kv.Errorf(kv.Lost, "index %d is lost: a promotion has ended its history before it, with the changes up to it; read again, and repeat what you wrote since", index)
	}
	return nil
}

// AwaitIndex waits until index is applied. The request gives up its place among those in
// flight meanwhile.
func (c *Store) AwaitIndex(ctx context.Context, index kv.Index) error {
	applied := c.machine.Load().Applied()
	if index <= applied {
		return nil
	}
	if !near(applied, index) {
		return kv.Errorf(kv.Precondition, "index %d is far ahead of what is applied here, %d; ask another node, or read without an index if it is one of another log", index, applied)
	}
	trace := kv.TraceOf(ctx)
	defer trace.Since(kv.IndexWait, trace.Start())
	place := kv.PlaceOf(ctx)
	if err := place.Park(); err != nil {
		return err
	}
	defer place.Unpark()
	ctx, cancel := context.WithTimeout(ctx, MaxIndexWait)
	defer cancel()
	applied, err := c.progress.wait(ctx, c.closing, index)
	switch {
	case errors.Is(err, replica.ErrClosed):
		return replica.ErrClosed
	case err != nil:
		return kv.Errorf(kv.Precondition, "index %d is not applied here yet, only %d: %w", index, applied, err)
	}
	return nil
}

// Changes implements Replica.
func (c *Store) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (out fsm.Changes, err error) {
	if c.State() == replica.Removed { // what is here will never be brought up to date
		return out, replica.ErrRemoved
	}
	_, err = c.With(ctx, func(m *fsm.Machine) (err error) {
		out, err = m.Changes(from, limit, maxBytes)
		return err
	})
	return out, err
}

// pinned reads an fsm.View as of one moment.
type pinned struct {
	*fsm.View
	now   kv.Clock
	reads *Reads
}

func (v pinned) MultiGet(keys [][]byte) ([]kv.Pair, error) { return v.View.MultiGet(keys, v.now) }

func (v pinned) ReadSome(ctx context.Context, keys [][]byte) (pairs []kv.Pair, n int, err error) {
	err = v.reads.turn(ctx, func() (err error) {
		pairs, n, err = v.View.ReadSome(keys, v.now)
		return err
	})
	return pairs, n, err
}

func (v pinned) Iterate(r storage.Range) *fsm.Iterator { return v.View.Iterate(r, v.now) }
