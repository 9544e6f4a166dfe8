package succession

import (
	"context"
	"math"
	"slices"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// Slave is the role of a node that can be promoted.
type Slave interface {
	role.Role
	// Seal, Unseal and Positions are about its copies; see promotion.Copies.
	Seal(ctx context.Context, promotion string) error
	Unseal(ctx context.Context, promotion string) error
	Positions(ctx context.Context) ([]slave.Position, error)
	CatchUp(ctx context.Context, promotion, vBucket, address string, upTo kv.Index) error
	ExportRequests(ctx context.Context, promotion, vBucket string, yield func(records []byte) error) error
	// Masters are the addresses of the masters that it knows.
	Masters() []string
}

// copies are those of a slave that is promoted.
type copies struct{ Slave }

// Positions implements promotion.Copies.
func (c copies) Positions() []promotion.Position {
	out := make([]promotion.Position, 0, len(c.VBuckets()))
	for _, v := range c.VBuckets() {
		s := v.Status()
		out = append(out, promotion.Position{VBucket: v.Name, History: s.Identity.History, Index: s.Applied, Clock: kv.ClockOf(s.Clock), Lag: s.Lag, Age: s.Age})
	}
	return out
}

// Reached implements promotion.Copies.
func (c copies) Reached(ctx context.Context) ([]promotion.Position, error) {
	out := c.Positions()
	found, err := c.Slave.Positions(ctx)
	if err != nil {
		return nil, err
	}
	for i, p := range found {
		out[i].History, out[i].Index, out[i].Sealed = p.Identity.History, p.Applied, p.Sealed
		out[i].Confirmed = p.Confirmed
		if p.Last.Index != 0 {
			out[i].Digest = changelog.Digest(&p.Last)
		}
	}
	return out, nil
}

// CatchUp implements promotion.Copies.
func (c copies) CatchUp(ctx context.Context, promotion, vBucket, from string, upTo kv.Index) error {
	return c.Slave.CatchUp(ctx, promotion, vBucket, from, upTo)
}

// Await implements promotion.Copies.
func (c copies) Await(ctx context.Context, vBucket string, index kv.Index) error {
	for _, v := range c.VBuckets() {
		if v.Name == vBucket {
			return v.AwaitApplied(ctx, index)
		}
	}
	return kv.Errorf(kv.NotFound, "vBucket %s is not known here", vBucket)
}

// calls are what nodes ask each other for promotions.
type calls struct {
	pool     *peer.Pool
	database string
	known    func() []string
}

// Known implements promotion.Masters.
func (c *calls) Known() []string { return c.known() }

// Seal implements promotion.Masters.
func (c *calls) Seal(ctx context.Context, address, id string) (promotion.SealedDatabase, error) {
	resp := new(peerpb.SealDatabaseResponse)
	req := &peerpb.SealDatabaseRequest{Database: c.database, Promotion: id}
	if err := c.pool.Call(ctx, address, peerpb.Standby_SealDatabase_FullMethodName, req, resp); err != nil {
		return promotion.SealedDatabase{}, err
	}
	out := promotion.SealedDatabase{Masters: resp.GetMasters(), Leased: resp.GetLeased()}
	for _, v := range resp.GetVBuckets() {
		out.VBuckets = append(out.VBuckets, promotion.SealedVBucket{Name: v.GetVBucket(), History: v.GetHistory(), Index: v.GetIndex(), Digest: v.GetDigest()})
	}
	return out, nil
}

// Unseal implements promotion.Masters.
func (c *calls) Unseal(ctx context.Context, address, id string) error {
	req := &peerpb.SealDatabaseRequest{Database: c.database, Promotion: id, Unseal: true}
	return c.pool.Call(ctx, address, peerpb.Standby_SealDatabase_FullMethodName, req, new(peerpb.SealDatabaseResponse))
}

// histories asks a node for its histories.
func (c *calls) histories(ctx context.Context, address string) ([]promotion.Descent, error) {
	resp := new(peerpb.GetHistoriesResponse)
	req := &peerpb.GetHistoriesRequest{Database: c.database}
	if err := c.pool.Call(ctx, address, peerpb.Standby_GetHistories_FullMethodName, req, resp); err != nil {
		return nil, err
	}
	var out []promotion.Descent
	for _, v := range resp.GetVBuckets() {
		out = append(out, promotion.Descent{VBucket: v.GetVBucket(), History: v.GetHistory(), Ends: endsOf(v.GetLineage())})
	}
	return out, nil
}

// endsOf returns up to where each history of a lineage is a part of what follows all of them. A
// later history may have ended at a lower index: its master then had not all of the former one. Of
// one that a restore ended, and of those before it, nothing is known to be a part.
func endsOf(lineage []*peerpb.FormerHistoryOf) map[string]kv.Index {
	ends, least := map[string]kv.Index{}, kv.Index(math.MaxUint64)
	for _, former := range slices.Backward(lineage) {
		least = min(least, former.GetEnd())
		ends[former.GetHistory()] = least
	}
	return ends
}

// yield tells a former master that other nodes have replaced it, and returns the other members
// of its cluster.
func (c *calls) yield(ctx context.Context, address string, req *peerpb.YieldRequest) ([]string, error) {
	resp := new(peerpb.YieldResponse)
	if err := c.pool.Call(ctx, address, peerpb.Standby_Yield_FullMethodName, req, resp); err != nil {
		return nil, err
	}
	if !resp.GetYielded() {
		return nil, kv.Errorf(kv.Precondition, "it does not yield: %s", resp.GetReason())
	}
	return resp.GetMasters(), nil
}

// descents are the histories of replicas.
func descents(ctx context.Context, vBuckets []role.VBucket) ([]*peerpb.VBucketHistory, error) {
	var out []*peerpb.VBucketHistory
	for _, v := range vBuckets {
		const beyond = math.MaxInt64 // a change number that no log reaches
		found, err := v.Changes(ctx, beyond, 1, 0)
		if err != nil {
			return nil, replica.ReadError(err)
		}
		h := &peerpb.VBucketHistory{VBucket: v.Name, History: found.History}
		for _, former := range found.Former {
			h.Lineage = append(h.Lineage, &peerpb.FormerHistoryOf{History: former.History, End: former.End})
		}
		out = append(out, h)
	}
	return out, nil
}
