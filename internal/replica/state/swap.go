package state

import (
	"context"
	"errors"
	"os"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/storage"
)

// Exchange builds a state in the next generation's folder and makes it the present one. A
// crash at any point leaves the old or the new one, whole. Readers of the old one are not
// disturbed; it is removed when the last of them is done.
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

// Successor is a state beside the present one.
type Successor struct {
	*fsm.Machine
	// Place is its folder; empty for a diskless one.
	Place string
}

// Aside builds a state in the next generation's folder, or in memory. Only one may be built
// at a time. After an error nothing of it is left.
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

// NextPlace returns the folder of the next generation, which does not exist; "" for a
// diskless state. Only one caller at a time may build there.
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

// TakeOver makes next, which is durable, the present state. On an error next is closed, and
// removed unless the error wraps durable.ErrUncertain. The caller holds the lock of
// LockState.
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
		c.closeReplaced(old) // its folder is removed when the data folder is opened the next time
	}
	return nil
}

// Drop closes and removes a state that does not replace the present one.
func (c *Store) Drop(next Successor) error {
	return errors.Join(next.Close(), RemoveFolder(next.Place))
}

// Shortage returns what has run out by an error, after which a state may be opened again in this
// process; nil for every other error. A swap of which it is not known whether it lasted is one of
// those whatever caused it: the folder may name another state than the present one, and only a
// restart finds out.
func Shortage(err error) error {
	if errors.Is(err, durable.ErrUncertain) {
		return nil
	}
	return storage.Shortage(err)
}
