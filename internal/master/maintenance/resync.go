package maintenance

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
	// CancelResync withdraws an order that is not carried out yet, and returns a sentence on
	// what happens to the copy. Ordered reports whether there is one.
	CancelResync(ctx context.Context) (string, error)
	Ordered() bool
}

// Resync implements DKVNode. It concerns this node only, and is never forwarded.
func (n *Node) Resync(ctx context.Context, r *serverpb.ResyncRequest) (*serverpb.ResyncResponse, error) {
	all, err := n.copies(r.GetVBucket())
	if err != nil {
		return nil, err
	}
	resp := &serverpb.ResyncResponse{Status: &serverpb.Status{}}
	for _, v := range all {
		is := v.Replica.(Resyncer)
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

// CancelResync implements DKVNode. Like Resync it concerns this node only.
func (n *Node) CancelResync(ctx context.Context, r *serverpb.CancelResyncRequest) (*serverpb.ResyncResponse, error) {
	all, err := n.copies(r.GetVBucket())
	if err != nil {
		return nil, err
	}
	resp := &serverpb.ResyncResponse{Status: &serverpb.Status{}}
	for _, v := range all {
		is := v.Replica.(Resyncer)
		if len(all) > 1 && !is.Ordered() {
			continue
		}
		what, err := is.CancelResync(ctx)
		if err != nil {
			return nil, err
		}
		resp.Orders = append(resp.Orders, &serverpb.ResyncOrder{VBucket: v.Name, What: what})
	}
	if len(resp.Orders) == 0 {
		return nil, kv.Errorf(kv.Precondition, "none of %d vBuckets has an order to give up its copy: it was carried out or withdrawn, or never given (nothing was changed)", len(all))
	}
	return resp, nil
}

// copies returns the vBucket of a name, or all for "", each of which is a Resyncer.
func (n *Node) copies(name string) ([]route.VBucket, error) {
	all := n.keyspace.All()
	if name != "" {
		v, err := n.keyspace.Named(name)
		if err != nil {
			return nil, err
		}
		all = []route.VBucket{v}
	}
	for _, v := range all {
		if _, copies := v.Replica.(Resyncer); !copies {
			return nil, kv.Errorf(kv.Precondition, "this node has role %s and keeps no copy of another node's data; -resync is for a slave (not applied)", n.info.Role)
		}
	}
	return all, nil
}
