package state

import (
	"context"
	"errors"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// What followers of the change stream ask for.

// AwaitApplied implements Replica.
func (c *Store) AwaitApplied(ctx context.Context, index kv.Index) error {
	_, err := c.progress.wait(ctx, c.closing, index)
	if errors.Is(err, replica.ErrClosed) {
		return replica.ErrClosed
	}
	return err
}

// Slaves implements Replica.
func (c *Store) Slaves(ctx context.Context) (out []fsm.ListedSlave, err error) {
	_, err = c.With(ctx, func(m *fsm.Machine) (err error) {
		out, err = m.Slaves()
		return err
	})
	return out, err
}
