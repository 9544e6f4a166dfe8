package state

import (
	"context"
	"errors"
	"os"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
)

// exchange builds a state in the next generation's folder and makes it the present
// one: a crash at any point leaves the old or the new, whole. Readers of the old
// one go on; it goes with the last of them.
func (c *Store) Exchange(ctx context.Context, build func(place string) (*fsm.Machine, error)) error {
	select {
	case c.swapping <- struct{}{}:
		defer func() { <-c.swapping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.State() == replica.Closed {
		return replica.ErrClosed
	}
	next, err := c.Aside(build)
	if err != nil {
		return err
	}
	return c.TakeOver(next)
}

// successor is a state beside the present one.
type Successor struct {
	*fsm.Machine
	// place is its folder; empty for a diskless one.
	Place string
}

// aside builds a state in the next generation's folder, or in memory. Only one may
// be built at a time. What it leaves on an error is gone.
func (c *Store) Aside(build func(place string) (*fsm.Machine, error)) (Successor, error) {
	place, err := c.NextPlace()
	if err != nil {
		return Successor{}, err
	}
	m, err := build(place)
	if err != nil {
		return Successor{}, errors.Join(err, RemoveFolder(place))
	}
	return Successor{Machine: m, Place: place}, nil
}

// nextPlace is the folder of the next generation, which is empty; "" for a diskless state.
// The caller holds swapping, or is the only one that builds.
func (c *Store) NextPlace() (string, error) {
	if c.opts.Generations == nil {
		return "", nil
	}
	return c.opts.Generations.Next()
}

func RemoveFolder(place string) error {
	if place == "" {
		return nil
	}
	return os.RemoveAll(place)
}

// takeOver makes next, which is durable, the present state. Where it does not, next
// is closed. The caller holds swapping.
func (c *Store) TakeOver(next Successor) error {
	old, oldPlace := c.machine.Load(), ""
	if c.opts.Generations != nil {
		oldPlace = c.opts.Generations.Current()
		if err := c.opts.Generations.Commit(next.Place); err != nil {
			err = errors.Join(err, next.Close())
			if !errors.Is(err, durable.ErrUncertain) {
				err = errors.Join(err, RemoveFolder(next.Place))
			}
			return err
		}
	}
	c.replace(next.Machine)
	if !c.Go(func() { c.discard(old, oldPlace) }) {
		c.closeReplaced(old) // its folder goes when the replica is opened again
	}
	return nil
}

// drop gives up a state beside the present one.
func (c *Store) Drop(next Successor) error {
	return errors.Join(next.Close(), RemoveFolder(next.Place))
}
