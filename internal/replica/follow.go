package replica

import (
	"context"
	"errors"
	"time"

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
func (c *core) Slaves(ctx context.Context) (out []fsm.ListedSlave, err error) {
	_, err = c.with(ctx, func(m *fsm.Machine) (err error) {
		out, err = m.Slaves()
		return err
	})
	return out, err
}

// Age implements Replica: nobody else writes to a log of one.
func (l *Local) Age() time.Duration { return 0 }

// Age implements Replica. It is asked for with every message of a change stream, so it
// must not keep the lease alive.
func (r *Raft) Age() time.Duration {
	if r.keeper.Held() {
		return 0
	}
	newest := max(time.Duration(r.newest.Load()), r.keeper.Confirmed())
	if newest == 0 {
		return neverFresh
	}
	return r.clock.Now() - newest
}
