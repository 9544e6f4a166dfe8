package witness

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Gate lets the answers of one log through while the node has the record's lease for it, and then
// asks the next gate, if there is one. A log that was gained has none before it was looked at.
type Gate struct {
	keeper *Keeper
	log    Log
	next   replica.Gate

	// opened is the lease for this log; nil before the first.
	opened atomic.Pointer[opening]
	// triedAt is the last tenure that a renewal has dealt with, plus one; 0 for none.
	triedAt atomic.Uint64
	// why is why the last renewal was not for this log; nil if it was. The keeper's mu is held.
	why error
	// said is what the log has answered last, and pending the answer that is awaited; nil for
	// none. Only Run uses them.
	said    *saying
	pending chan *saying
}

// opening is the lease for a log, in one tenure.
type opening struct {
	tenure uint64
	until  time.Duration
}

var _ replica.Gate = (*Gate)(nil)

// Gate returns the gate of a vBucket by its position. It asks next, unless that is nil.
func (k *Keeper) Gate(i int, next replica.Gate) *Gate {
	k.gates[i].next = next
	return k.gates[i]
}

// tried reports whether a renewal has dealt with the log's present tenure.
func (g *Gate) tried() bool { return g.triedAt.Load() == g.log.Tenure()+1 }

// ready reports whether the log was gained and not looked at, or has answered late and waits for
// that to count. Only Run calls it.
func (g *Gate) ready() bool {
	switch {
	case !g.log.Owned():
		return false
	case g.pending != nil:
		return len(g.pending) > 0 && g.held() != nil
	default:
		return !g.tried()
	}
}

// extend opens the gate for longer, in the tenure in which the log was looked at. The keeper's mu
// is held.
func (g *Gate) extend(until time.Duration) {
	if o := g.opened.Load(); o != nil && o.tenure == g.said.tenure {
		until = max(until, o.until)
	}
	g.opened.Store(&opening{g.said.tenure, until})
}

// held returns why the log has no lease; nil if it has. What was found before a call that returns
// nil may be answered.
func (g *Gate) held() error {
	if o := g.opened.Load(); o != nil && g.keeper.clock.Now() < o.until && o.tenure == g.log.Tenure() {
		return nil
	}
	if err := g.keeper.Held(); err != nil {
		return err
	}
	g.keeper.mu.Lock()
	defer g.keeper.mu.Unlock()
	if g.why != nil {
		return g.why
	}
	return kv.Errorf(kv.Unavailable, "this node owns the log since a moment ago, and has not looked yet whether the lease of the registry is for it, too")
}

// await returns once a renewal has dealt with a log that was gained, for a part of the lease at
// most.
func (g *Gate) await(ctx context.Context) {
	if g.tried() || !g.keeper.Valid() {
		return
	}
	t := time.NewTimer(g.keeper.opts.Lease / share)
	defer t.Stop()
	for {
		changed := g.keeper.Changed()
		if g.tried() || !g.keeper.Valid() {
			return
		}
		select {
		case <-changed:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Admit implements replica.Gate.
func (g *Gate) Admit(ctx context.Context, want kv.Ack) error {
	g.await(ctx)
	if err := g.held(); err != nil {
		return kv.Errorf(kv.Unavailable, "nothing is written without the lease of the registry: %w", err)
	}
	if g.next == nil {
		return nil
	}
	return g.next.Admit(ctx, want)
}

// Await implements replica.Gate. The look at the lease comes last: whatever the answer shows,
// no other masters answer then.
func (g *Gate) Await(ctx context.Context, index kv.Index, want kv.Ack) (reached kv.Ack, err error) {
	g.await(ctx)
	if g.next != nil {
		if reached, err = g.next.Await(ctx, index, want); err != nil {
			return reached, err
		}
	}
	if err := g.held(); err != nil {
		return reached, kv.UnknownOutcome(kv.NotConfirmed, fmt.Errorf("applied here, not confirmed: %w", err))
	}
	return reached, nil
}
