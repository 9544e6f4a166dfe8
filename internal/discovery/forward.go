package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
)

// forwardedMark is the metadata of a request that has taken its hop: who gets it
// answers or turns it away.
const forwardedMark = "dkv-discovery-forwarded"

func isForwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, forwardedMark)) > 0
}

const (
	// updatePatience is how long a heartbeat or a watch waits for an owner: an
	// election or two.
	updatePatience = 5 * time.Second
	// readPatience is how long a look-up does: old rows are better than none, and
	// those who look up do so within a second or two.
	readPatience = 700 * time.Millisecond
	// The pauses between two looks for the owner.
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// atOwner has a request answered where the registry is owned: here on this node,
// there by another one. Every request may be made again.
func (r *Registry) atOwner(ctx context.Context, patience time.Duration, here func(*reign) error, there func(context.Context, *peer.Peer) error) error {
	limit := time.Now().Add(patience)
	if deadline, limited := ctx.Deadline(); limited {
		// The answer that nobody owns the registry takes some time too.
		limit = earlier(limit, deadline.Add(-time.Until(deadline)/4))
	}
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		err := r.attempt(ctx, limit, here, there)
		if err == nil || !mayRepeat(ctx, err) {
			return err
		}
		if !time.Now().Add(wait).Before(limit) || !sleep.For(ctx, wait/2+rand.N(wait)) {
			return kv.Errorf(kv.Unavailable, "nobody served the registry in time: %v; retry later", err)
		}
	}
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
	case isForwarded(ctx):
		return kv.Errorf(kv.NotOwner, "this node does not own the registry; ask its owner")
	case owner.Address == "" || r.pool == nil:
		return kv.Errorf(kv.NotOwner, "no owner of the registry is known here")
	default:
		return r.ask(ctx, limit, owner.Address, there)
	}
}

// ask makes a call of the owner for as long as it is that.
func (r *Registry) ask(ctx context.Context, limit time.Time, addr string, call func(context.Context, *peer.Peer) error) error {
	ctx, stop := r.whileOwner(ctx, addr)
	defer stop()
	reach, cancel := context.WithDeadline(ctx, limit)
	p, err := r.pool.Reach(reach, addr)
	cancel()
	if err != nil {
		return err
	}
	return call(metadata.AppendToOutgoingContext(ctx, forwardedMark, "1"), p)
}

var errMoved = errors.New("the registry has another owner by now")

// whileOwner returns a context that ends when another node is to be asked: the
// former owner may not answer at all. stop releases it.
func (r *Registry) whileOwner(ctx context.Context, addr string) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(tenureInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if o := r.store.Owner(); o.Self || o.Address != "" && o.Address != addr {
					cancel(errMoved)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		wg.Wait()
	}
}

// mayRepeat tells whether another attempt may do better.
func mayRepeat(ctx context.Context, err error) bool {
	var f *final
	if errors.As(err, &f) || ctx.Err() != nil {
		return false
	}
	switch kv.KindOf(err) {
	case kv.NotOwner:
		return !isForwarded(ctx)
	case kv.Unavailable:
		return true
	default:
		return false
	}
}
