package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// statusCall is how long a member may take to return its status.
const statusCall = 2 * time.Second

// statusOf asks a member for its status.
func (c *Cluster) statusOf(ctx context.Context, id uint64) (*serverpb.NodeStatusResponse, error) {
	member := c.first().Members()[id]
	if member.Address == "" {
		return nil, fmt.Errorf("member %d has not announced its gRPC address yet", id)
	}
	ctx, cancel := context.WithTimeout(ctx, statusCall)
	defer cancel()
	return c.statusAt(ctx, member.Address)
}

// statusAt asks the node at an address for its status.
func (c *Cluster) statusAt(ctx context.Context, address string) (*serverpb.NodeStatusResponse, error) {
	out := new(serverpb.NodeStatusResponse)
	if err := c.pool.Call(ctx, address, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// appliedIn returns what a member has applied of a vBucket, by its status.
func appliedIn(status *serverpb.NodeStatusResponse, vBucket string) (applied kv.Index, found bool) {
	v := vBucketIn(status, vBucket)
	return v.GetAppliedIndex(), v != nil
}

// vBucketIn returns a vBucket's part of a member's status; nil if there is none.
func vBucketIn(status *serverpb.NodeStatusResponse, vBucket string) *serverpb.VBucketStatus {
	for _, v := range status.GetVBuckets() {
		if v.GetVBucket() == vBucket {
			return v
		}
	}
	return nil
}

// answering asks all peers but this node for their status, and returns the ids of those
// that answer and of this node.
func (c *Cluster) answering(ctx context.Context, peers []replica.Peer) map[uint64]bool {
	var mu sync.Mutex
	var asking sync.WaitGroup
	up := map[uint64]bool{c.self.Replica: true}
	for _, p := range peers {
		if p.ID == c.self.Replica {
			continue
		}
		asking.Go(func() {
			if _, err := c.statusOf(ctx, p.ID); err == nil {
				mu.Lock()
				defer mu.Unlock()
				up[p.ID] = true
			}
		})
	}
	asking.Wait()
	return up
}
