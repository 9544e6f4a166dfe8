package follower

import (
	"context"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Order has an operator give up the present state for that of a cluster: durably, unless
// the state is diskless, until another state has taken its place. An empty cluster
// withdraws that.
func (f *Replica) Order(ctx context.Context, cluster string) error {
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if f.opts.Generations != nil {
		if err := f.opts.Generations.Order(cluster); err != nil {
			return kv.Errorf(replica.KindOf(err), "the order cannot be written down: %w", err)
		}
	}
	f.order.Store(&cluster)
	return nil
}

// Ordered returns the cluster for whose state an operator has given up the present one,
// and whether that is so.
func (f *Replica) Ordered() (cluster string, ordered bool) {
	if c := f.order.Load(); c != nil && *c != "" {
		return *c, true
	}
	return "", false
}

// loadOrder finds an order that a crash, or a stop, has left.
func (f *Replica) loadOrder() error {
	if f.opts.Generations == nil {
		return nil
	}
	cluster, ordered, err := f.opts.Generations.Ordered()
	if ordered {
		f.order.Store(&cluster)
	}
	return err
}

// Succeeds reports whether the present history has taken the place of another one.
func (f *Replica) Succeeds(history string) bool { return f.state.Machine().Succeeds(history) }

// Keyless reports whether there is no key in the state.
func (f *Replica) Keyless(ctx context.Context) (keyless bool, err error) {
	_, err = f.state.With(ctx, func(m *fsm.Machine) error {
		some, err := m.HasKeys()
		keyless = !some
		return err
	})
	return keyless, err
}
