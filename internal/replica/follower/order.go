package follower

import (
	"context"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Order notes that an operator has given up the present state for that of a cluster. The
// order lasts, over restarts unless the state is diskless, until another state has replaced
// the present one. An empty cluster withdraws the order.
func (f *Replica) Order(ctx context.Context, cluster string) error {
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f.setOrder(cluster)
}

// setOrder stores an order. The state is locked.
func (f *Replica) setOrder(cluster string) error {
	if f.opts.Generations != nil {
		if err := f.opts.Generations.Order(cluster); err != nil {
			return kv.Errorf(replica.KindOf(err), "the order cannot be stored: %w", err)
		}
	}
	f.order.Store(&cluster)
	return nil
}

// Withdraw withdraws an order, and reports whether there was one: it may have been carried
// out.
func (f *Replica) Withdraw(ctx context.Context) (was bool, err error) {
	unlock, err := f.state.LockState(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, was = f.Ordered(); !was {
		return false, nil
	}
	return true, f.setOrder("")
}

// Ordered returns the cluster for whose state an operator has given up the present one, and
// whether there is one.
func (f *Replica) Ordered() (cluster string, ordered bool) {
	if c := f.order.Load(); c != nil && *c != "" {
		return *c, true
	}
	return "", false
}

// loadOrder reads an order that was given before this start.
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

// Succeeds reports whether the present history has replaced that one.
func (f *Replica) Succeeds(history string) bool { return f.state.Machine().Succeeds(history) }

// Keyless reports whether the state has no keys.
func (f *Replica) Keyless(ctx context.Context) (keyless bool, err error) {
	_, err = f.state.With(ctx, func(m *fsm.Machine) error {
		some, err := m.HasKeys()
		keyless = !some
		return err
	})
	return keyless, err
}
