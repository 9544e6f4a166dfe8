package master

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

var setClockCall = call{method: serverpb.DKVNode_SetClock_FullMethodName, mutates: true}

// SetClock implements DKVNode.
func (n *Node) SetClock(ctx context.Context, r *serverpb.SetClockRequest) (*serverpb.Status, error) {
	var to time.Time // now
	if ms := r.GetClockMillis(); ms != 0 {
		to = time.UnixMilli(int64(min(ms, 1<<62)))
	}
	return n.atOwners(ctx, setClockCall, r, func(ctx context.Context, v VBucket) error { return v.SetClock(ctx, to) })
}
