package replica

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// What those need who follow a log by its change stream.

// AwaitApplied implements Replica.
func (c *core) AwaitApplied(ctx context.Context, index kv.Index) error {
	_, err := c.progress.wait(ctx, c.closing, index)
	if errors.Is(err, errQueueClosed) {
		return errClosed
	}
	return err
}

// Slaves implements Replica.
func (c *core) Slaves(ctx context.Context) (out []command.Slave, err error) {
	_, err = c.with(ctx, func(m *fsm.Machine) (err error) {
		out, err = m.Slaves()
		return err
	})
	return out, err
}

// Age implements Replica: nobody else writes to a log of one.
func (l *Local) Age() time.Duration { return 0 }

// Age implements Replica.
func (r *Raft) Age() time.Duration {
	if held, ok := r.keeper.Take(); ok && held.Valid() {
		return 0
	}
	newest := time.Duration(r.newest.Load())
	if newest == 0 {
		return neverFresh
	}
	return r.clock.Now() - newest
}
