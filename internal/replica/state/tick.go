package state

import (
	"context"
	"errors"
	"sync"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// A linearizable read decides by the log's clock which keys have expired: it is the only
// clock that the next owner of the log, or this node after a restart, has. A pair that has
// expired by this node's clock and not by the log's is neither shown nor hidden: first the
// log's clock is moved past the expiry.

// errDue is the error of an attempt at a linearizable read that has found such a pair.
var errDue error = kv.Errorf(kv.Unavailable, "the log's clock is behind the expiry of a key")

// get returns the pair at key as a read of that level sees it, and the index of the state
// that was read.
func (c *Store) get(m *fsm.Machine, key []byte, level kv.ReadLevel) (p kv.Pair, found bool, at kv.Index, err error) {
	at, err = exactly(m, func(s lookup) (err error) {
		if level != kv.Linearizable {
			p, found, err = s.Get(key, c.Clock(s))
			return err
		}
		p, found, err = s.Get(key, s.Clock())
		if found && c.due(s, p.ExpireTS) {
			p, found = kv.Pair{}, false
			return errDue
		}
		return err
	})
	return p, found, at, err
}

// multiGet is get for several keys.
func (c *Store) multiGet(m *fsm.Machine, keys [][]byte, level kv.ReadLevel) (pairs []kv.Pair, at kv.Index, err error) {
	at, err = exactly(m, func(s lookup) (err error) {
		if level != kv.Linearizable {
			pairs, err = s.MultiGet(keys, c.Clock(s))
			return err
		}
		pairs, err = s.MultiGet(keys, s.Clock())
		for i := range pairs {
			if c.due(s, pairs[i].ExpireTS) {
				pairs = nil
				return errDue
			}
		}
		return err
	})
	return pairs, at, err
}

// pin pins the present state for reads of that level.
func (c *Store) pin(m *fsm.Machine, level kv.ReadLevel) (pinned, error) {
	if level == kv.Linearizable {
		switch due, err := m.Due(c.Clock(m)); {
		case err != nil:
			return pinned{}, err
		case due:
			return pinned{}, errDue
		}
	}
	v, err := m.View()
	if err != nil {
		return pinned{}, err
	}
	if level == kv.Linearizable {
		return pinned{View: v, now: v.Clock(), reads: c.opts.Reads}, nil
	}
	return pinned{View: v, now: c.Clock(m), reads: c.opts.Reads}, nil // never behind the view's clock
}

// due reports whether a pair that has not expired by the log's clock has expired by this
// node's. It reads no clock for a pair that never expires.
func (c *Store) due(s clocked, expireTS uint64) bool {
	return expireTS != 0 && c.Clock(s).Expired(expireTS)
}

// Settle calls read until it finds no pair whose expiry is open, and moves the log's clock
// in between.
func (c *Store) Settle(ctx context.Context, read func() (kv.ReadInfo, error)) (kv.ReadInfo, error) {
	for {
		info, err := read()
		if !errors.Is(err, errDue) {
			return info, err
		}
		if err := c.tick(ctx); err != nil {
			return kv.ReadInfo{}, err
		}
	}
}

// ticks holds the tick that is under way; nil for none.
type ticks struct {
	mu      sync.Mutex
	running *tick
}

type tick struct {
	done chan struct{}
	err  error // set before done is closed
}

// tick moves the log's clock to this node's. Readers that need one meanwhile wait for the
// same; each checks afterwards whether that was enough.
func (c *Store) tick(ctx context.Context) error {
	t, err := c.joinTick()
	if err != nil {
		return err
	}
	select {
	case <-t.done:
		return t.err
	case <-c.closing:
		return replica.ErrClosed
	case <-ctx.Done():
		return noTick(ctx.Err())
	}
}

func (c *Store) joinTick() (*tick, error) {
	c.ticks.mu.Lock()
	defer c.ticks.mu.Unlock()
	if c.ticks.running != nil {
		return c.ticks.running, nil
	}
	t := &tick{done: make(chan struct{})}
	if !c.Go(func() { c.runTick(t) }) {
		return nil, replica.ErrClosed
	}
	c.ticks.running = t
	return t, nil
}

// runTick proposes a tick. It has no reader's deadline, so that none of them ends it for
// the others.
func (c *Store) runTick(t *tick) {
	ctx, cancel := c.UntilClosing(context.Background())
	defer cancel()
	_, err := c.propose(ctx, &command.Command{Kind: command.Tick})
	switch {
	case err == nil:
	case kv.KindOf(err) == kv.NotOwner:
		t.err = err // another node answers the read
	default:
		t.err = noTick(err)
	}
	c.ticks.mu.Lock()
	c.ticks.running = nil
	c.ticks.mu.Unlock()
	close(t.done)
}

// noTick is the error of a reader for which the log's clock was not moved. The outcome of
// the tick does not matter to it.
func noTick(err error) error {
	return kv.Errorf(kv.Unavailable, "a key has expired by this node's clock, and that could not be written to the log: %v; retry", err)
}
