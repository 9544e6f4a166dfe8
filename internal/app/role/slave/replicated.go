package slave

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave"
)

// replicated is a copy with the puller that keeps it up to date.
type replicated struct {
	*follower.Replica
	puller *slave.Puller
	// refused returns why the owners of logs hear nothing of this slave; nil if they do.
	refused func() error
}

// Run keeps the copy, and keeps it up to date, until ctx ends.
func (r *replicated) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.Replica.Run(ctx) })
	g.Go(func() error { return r.puller.Run(ctx) })
	return g.Wait()
}

// Path returns the nodes by which changes reach those who follow this copy, which is the first
// of them; see package replication.
func (r *replicated) Path() []string { return r.puller.Path() }

// Changes implements replica.Replica. While a promotion has sealed the copy they are for that only.
func (r *replicated) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	c, err := r.Replica.Changes(ctx, from, limit, maxBytes)
	if r.Sealed() == peer.PromotionOf(ctx) {
		return c, err
	}
	if withheld := r.Withheld(); withheld != nil { // after the read, which the seal may have come before
		return fsm.Changes{}, withheld
	}
	return c, err
}

// Resync implements maintenance.Resyncer.
func (r *replicated) Resync(ctx context.Context, force bool) (string, error) {
	return r.puller.Resync(ctx, force)
}

// CancelResync implements maintenance.Resyncer.
func (r *replicated) CancelResync(ctx context.Context) (string, error) {
	return r.puller.CancelResync(ctx)
}

// Ordered implements maintenance.Resyncer.
func (r *replicated) Ordered() bool {
	_, is := r.Replica.Ordered()
	return is
}

// Kept implements maintenance.Resyncer.
func (r *replicated) Kept() bool { return r.puller.Status().Kept != "" }

// Status implements replica.Replica.
func (r *replicated) Status() replica.Status {
	s, p := r.Replica.Status(), r.puller.Status()
	s.Lag, s.Age, s.Stale = p.LagChanges, p.Age, r.puller.Healthy()
	s.Snapshot = replica.Transfer{Bytes: p.Snapshot.Bytes, Size: max(p.Snapshot.Size, p.Snapshot.Bytes)}
	s.Link = replica.Link{Path: p.Path, Lag: p.Link.Lag, Age: p.Link.Age}
	if s.Behind = r.refused(); p.Err != nil {
		s.Behind = fmt.Errorf("changes are not applied at present: %w", p.Err)
	}
	return s
}
