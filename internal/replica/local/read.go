package local

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// read calls f with the present state once it reflects what opts ask for. A log
// of one has nobody to be behind of: its state is the newest there is, so both
// levels read it as it is, and its age is 0. They differ in what has expired.
func (l *Replica) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if err := l.state.AwaitIndex(ctx, opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	return l.state.Settle(ctx, func() (kv.ReadInfo, error) { return l.state.With(ctx, f) })
}

// Age implements Replica: no other node writes to a log of one.
func (l *Replica) Age() time.Duration { return 0 }
