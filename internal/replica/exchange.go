package replica

import (
	"context"
	"errors"
	"os"

	"github.com/dkvdb/dkv/internal/fsm"
)

// exchange builds a state in the next generation's folder and makes it the present
// one: a crash at any point leaves the old or the new, whole. Readers of the old
// one go on; it goes with the last of them.
func (c *core) exchange(ctx context.Context, build func(place string) (*fsm.Machine, error)) error {
	select {
	case c.swapping <- struct{}{}:
		defer func() { <-c.swapping }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.State() == Closed {
		return errClosed
	}
	next, err := c.aside(build)
	if err != nil {
		return err
	}
	return c.takeOver(next)
}

// successor is a state beside the present one.
type successor struct {
	*fsm.Machine
	// place is its folder; empty for a diskless one.
	place string
}

// aside builds a state in the next generation's folder, or in memory. Only one may
// be built at a time. What it leaves on an error is gone.
func (c *core) aside(build func(place string) (*fsm.Machine, error)) (successor, error) {
	place := ""
	if c.opts.Generations != nil {
		var err error
		if place, err = c.opts.Generations.Next(); err != nil {
			return successor{}, err
		}
	}
	m, err := build(place)
	if err != nil {
		return successor{}, errors.Join(err, removeAll(place))
	}
	return successor{Machine: m, place: place}, nil
}

func removeAll(place string) error {
	if place == "" {
		return nil
	}
	return os.RemoveAll(place)
}

// takeOver makes next, which is durable, the present state. Where it does not, next
// is closed. The caller holds swapping.
func (c *core) takeOver(next successor) error {
	old, oldPlace := c.machine.Load(), ""
	if c.opts.Generations != nil {
		oldPlace = c.opts.Generations.Current()
		if err := c.opts.Generations.Commit(next.place); err != nil {
			return errors.Join(err, next.Close())
		}
	}
	c.replace(next.Machine)
	if !c.later(func() { c.discard(old, oldPlace) }) {
		c.closeReplaced(old) // its folder goes when the replica is opened again
	}
	return nil
}

// drop gives up a state beside the present one.
func (c *core) drop(next successor) error {
	return errors.Join(next.Close(), removeAll(next.place))
}
