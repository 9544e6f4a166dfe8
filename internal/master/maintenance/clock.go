package maintenance

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/route"
)

var setClockCall = route.Call{Method: serverpb.DKVNode_SetClock_FullMethodName, Mutates: true}

// SetClock implements DKVNode.
func (n *Node) SetClock(ctx context.Context, r *serverpb.SetClockRequest) (*serverpb.Status, error) {
	var to time.Time // now
	if ms := r.GetClockMillis(); ms != 0 {
		to = time.UnixMilli(int64(min(ms, 1<<62)))
	}
	err := n.router.AtOwners(ctx, n.keyspace, setClockCall, r, func(ctx context.Context, v route.VBucket) error {
		return v.SetClock(ctx, to)
	})
	if err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}
