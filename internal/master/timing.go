package master

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/timing"
)

// timed is a vBucket whose log several nodes keep: that of the first one keeps their
// timing.
type timed interface {
	TimingSetting() timing.Setting
	SetTiming(ctx context.Context, to timing.Timing) error
}

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
		return ok(), nil
	})
}

// addTiming adds the members' timing to a status.
func (n *Node) addTiming(resp *serverpb.NodeStatusResponse) {
	resp.Timing = n.info.Timing
	if raft, is := n.keyspace.All()[0].Replica.(timed); is {
		s := raft.TimingSetting()
		resp.ClusterTiming, resp.NextTiming = s.Current.Text(), s.Next.Text()
	}
}
