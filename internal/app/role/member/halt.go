package member

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/internal/replica/raft"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// Deployment is the id of the masters.
func (m *Member) Deployment() string { return fmt.Sprintf("%016x", m.identity.Deployment) }

// Voters returns the logs with the voting members as they are applied here.
func (m *Member) Voters() ([]promotion.StoppedVBucket, error) {
	out := make([]promotion.StoppedVBucket, len(m.rafts))
	for i, r := range m.rafts {
		voters, err := r.Voters()
		if err != nil {
			return nil, fmt.Errorf("vBucket %s: %w", m.node.Layout.VBuckets[i], err)
		}
		out[i] = m.stopped(i, raft.Halted{Voters: [][]uint64{voters}})
	}
	return out, nil
}

// Halt takes this master out of all its logs for good, or until the process starts again: the
// caller has written down that it does not. It returns what it knows of them. Changes that its
// state lacks are in a copy of that, in the folder that copyTo names for a vBucket.
func (m *Member) Halt(ctx context.Context, reason error, copyTo func(vBucket string) string) ([]promotion.StoppedVBucket, error) {
	out := make([]promotion.StoppedVBucket, len(m.rafts))
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range m.rafts {
		g.Go(func() error {
			h, err := r.Halt(ctx, reason, copyTo(m.node.Layout.VBuckets[i]))
			out[i] = m.stopped(i, h)
			return err
		})
	}
	return out, g.Wait()
}

func (m *Member) stopped(i int, h raft.Halted) promotion.StoppedVBucket {
	v := promotion.StoppedVBucket{
		Name: m.node.Layout.VBuckets[i], History: m.rafts[i].Status().Identity.History, Replica: m.identity.Replica,
		Term: h.Term, Last: h.Last, End: h.End, Voters: h.Voters, Lease: h.Lease, Seals: h.Seals, Digest: h.Digest, Standbys: h.Standbys,
	}
	if h.Fault != nil {
		v.Fault = h.Fault.Error()
	}
	return v
}
