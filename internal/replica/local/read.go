package local

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// read calls f with the present state once it is at the index that opts ask for. No other
// node has a newer state, so both levels read it as it is, and its age is 0. They differ in
// which keys have expired.
func (l *Replica) read(ctx context.Context, opts kv.ReadOptions, f func(*fsm.Machine) error) (kv.ReadInfo, error) {
	if l.retired != nil {
		return kv.ReadInfo{}, l.retired
	}
	if err := l.state.Held(opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	if err := l.state.AwaitIndex(ctx, opts.MinIndex); err != nil {
		return kv.ReadInfo{}, err
	}
	return l.state.Settle(ctx, func() (kv.ReadInfo, error) {
		info, err := l.state.With(ctx, f)
		if err == nil && opts.Level == kv.Linearizable {
			if err = l.state.Unsealed(); err == nil {
				err = l.state.AwaitShown(ctx)
			}
		}
		return info, err
	})
}

// Age implements Replica: no other node writes to this log, until one has replaced this node.
func (l *Replica) Age() time.Duration {
	if l.retired != nil {
		return replica.NeverFresh
	}
	return 0
}
