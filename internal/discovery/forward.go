package discovery

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/route"
)

// The registry finds its owner as package route does for keys: it forwards a request once,
// pauses as long between attempts, and leaves an owner that was replaced. Three things differ,
// which is why route.AtOwner does not serve it. Every request is safe to repeat, so no error
// has an outcome. A node gives up long before a caller's deadline, because old rows are better
// than none. And an owner that has just begun is not ready: its rows are still being read.

const (
	// updatePatience is how long a heartbeat or a watch waits for an owner: one or two
	// elections.
	updatePatience = 5 * time.Second
	// readPatience is how long a look-up waits. Those who look up wait a second or two.
	readPatience = 700 * time.Millisecond
)

// atOwner serves a request at the node that owns the registry: with here on this node, with
// there by a call of another one.
func (r *Registry) atOwner(ctx context.Context, patience time.Duration, here func(*reign) error, there func(context.Context, *peer.Peer) error) error {
	limit := time.Now().Add(patience)
	if deadline, limited := ctx.Deadline(); limited {
		// The error that no node owns the registry takes some time to arrive.
		limit = earlier(limit, deadline.Add(-time.Until(deadline)/4))
	}
	done, err := route.Repeat(ctx, limit, func() (bool, error) {
		err := r.attempt(ctx, limit, here, there)
		return err == nil || !mayRepeat(ctx, err), err
	})
	if !done {
		return kv.Errorf(kv.Unavailable, "no node served the registry in time: %v; retry later", err)
	}
	return err
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (r *Registry) attempt(ctx context.Context, limit time.Time, here func(*reign) error, there func(context.Context, *peer.Peer) error) error {
	switch owner := r.store.Owner(); {
	case owner.Self:
		if g := r.current.Load(); g != nil {
			return here(g)
		}
		return kv.Errorf(kv.Unavailable, "the registry is being read")
	case route.RegistryForwarded.In(ctx):
		return kv.Errorf(kv.NotOwner, "this node does not own the registry; ask its owner")
	case owner.Address == "" || r.pool == nil:
		return kv.Errorf(kv.NotOwner, "no owner of the registry is known here")
	default:
		return r.ask(ctx, limit, owner.Address, there)
	}
}

// ask makes a call of the owner, until another node is known to own the registry.
func (r *Registry) ask(ctx context.Context, limit time.Time, addr string, call func(context.Context, *peer.Peer) error) error {
	ctx, stop := route.Until(ctx, func() bool {
		o := r.store.Owner()
		return o.Self || o.Address != "" && o.Address != addr
	})
	defer stop()
	reach, cancel := context.WithDeadline(ctx, limit)
	p, err := r.pool.Reach(reach, addr)
	cancel()
	if err != nil {
		return err
	}
	if ctx, err = route.RegistryForwarded.Set(ctx); err != nil {
		return err
	}
	return call(ctx, p)
}

// mayRepeat reports whether another attempt may succeed. A node that was removed since it owned the
// registry says so of itself: the other nodes have another owner.
func mayRepeat(ctx context.Context, err error) bool {
	var f *final
	if errors.As(err, &f) || ctx.Err() != nil {
		return false
	}
	switch kind := kv.KindOf(err); {
	case kind == kv.NotOwner:
		return !route.RegistryForwarded.In(ctx)
	case kind == kv.Unavailable, errors.Is(err, kv.ErrRemoved) && peer.Answered(err):
		return true
	default:
		return false
	}
}
