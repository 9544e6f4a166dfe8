package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
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

// takesPart reports whether the replica that a status is of takes part in its log. One of which the
// storage has failed, or the disk is an older copy, has stopped, although its node answers.
func takesPart(v *serverpb.VBucketStatus) bool {
	switch replica.State(v.GetState()) {
	case replica.Failed, replica.Removed, replica.Closed:
		return false
	}
	return v != nil
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

// answering asks all peers but this node for their status, and returns what those have said that
// answer, by id.
func (c *Cluster) answering(ctx context.Context, peers []replica.Peer) map[uint64]*serverpb.NodeStatusResponse {
	var mu sync.Mutex
	var asking sync.WaitGroup
	up := make(map[uint64]*serverpb.NodeStatusResponse)
	for _, p := range peers {
		if p.ID == c.self.Replica {
			continue
		}
		asking.Go(func() {
			if status, err := c.statusOf(ctx, p.ID); err == nil {
				mu.Lock()
				defer mu.Unlock()
				up[p.ID] = status
			}
		})
	}
	asking.Wait()
	return up
}
