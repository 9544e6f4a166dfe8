package master

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// Resyncer is a copy of another node's vBucket that an operator may have rebuilt.
type Resyncer interface {
	// Resync orders the copy to be replaced by a master's state, and returns a sentence on
	// what happens to it. A healthy copy is rebuilt only with force.
	Resync(ctx context.Context, force bool) (string, error)
	// Kept reports whether the copy is kept, although a master contradicts it, until such
	// an order.
	Kept() bool
}

// Resync implements DKVNode. It concerns this node only, and is never forwarded.
func (n *Node) Resync(ctx context.Context, r *serverpb.ResyncRequest) (*serverpb.ResyncResponse, error) {
	all := n.keyspace.All()
	if r.GetVBucket() != "" {
		v, err := n.keyspace.Named(r.GetVBucket())
		if err != nil {
			return nil, err
		}
		all = []route.VBucket{v}
	}
	resp := &serverpb.ResyncResponse{Status: &serverpb.Status{}}
	for _, v := range all {
		is, copies := v.Replica.(Resyncer)
		if !copies {
			return nil, kv.Errorf(kv.Precondition, "this node has role %s and keeps no copy of another node's data; -resync is for a slave (not applied)", n.info.Role)
		}
		if r.GetVBucket() == "" && !r.GetForce() && len(all) > 1 && !is.Kept() {
			continue // it follows its master
		}
		what, err := is.Resync(ctx, r.GetForce())
		if err != nil && len(resp.Orders) > 0 {
			err = fmt.Errorf("%d vBuckets were ordered to give up their copies, the next failed: %w", len(resp.Orders), err)
		}
		if err != nil {
			return nil, err
		}
		resp.Orders = append(resp.Orders, &serverpb.ResyncOrder{VBucket: v.Name, What: what})
	}
	if len(resp.Orders) == 0 {
		return nil, kv.Errorf(kv.Precondition, "none of %d vBuckets keeps a copy that a master contradicts; -force rebuilds all of them, from masters of their cluster (not applied)", len(all))
	}
	return resp, nil
}
