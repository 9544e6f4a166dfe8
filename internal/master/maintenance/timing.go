package maintenance

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/timing"
)

var setTimingCall = route.Call{Method: serverpb.DKVNode_SetTiming_FullMethodName, Mutates: true}

// SetTiming implements DKVNode.
func (n *Node) SetTiming(ctx context.Context, r *serverpb.SetTimingRequest) (*serverpb.Status, error) {
	to, err := timing.Parse(r.GetTiming())
	if err != nil {
		return nil, kv.Errorf(kv.Invalid, "%w", err)
	}
	v := n.keyspace.All()[0]
	raft, is := v.Replica.(timed)
	if !is {
		return nil, n.noCluster()
	}
	return route.AtOwner(ctx, n.router, v, setTimingCall, r, func(ctx context.Context) (*serverpb.Status, error) {
		if err := raft.SetTiming(ctx, to); err != nil {
			return nil, err
		}
		return &serverpb.Status{}, nil
	})
}
