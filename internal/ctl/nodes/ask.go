package nodes

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/clients/go/dkv/admin"
)

// NodeStatus asks a node for its status.
func (c *Client) NodeStatus(ctx context.Context) (*serverpb.NodeStatusResponse, error) {
	var res *serverpb.NodeStatusResponse
	err := c.Call(ctx, Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		res, err = admin.NodeStatus(ctx, conn)
		return err
	})
	return res, err
}

// ListNodes asks for the members of the cluster. The list of a node that was removed counts only
// if no other address has one; its status then says so.
func (c *Client) ListNodes(ctx context.Context) (*serverpb.ListNodesResponse, error) {
	var res, former *serverpb.ListNodesResponse
	err := c.Call(ctx, Reads, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		if res, err = admin.ListNodes(ctx, conn); err == nil && res.GetStatus().GetMessage() != "" {
			former, err = res, removed(res.GetStatus().GetMessage())
		}
		return err
	})
	if err != nil && former != nil {
		return former, nil
	}
	return res, err
}

// HasNoMembers reports whether an error of ListNodes means that the node belongs to no
// Raft cluster, as opposed to members that could not be listed.
func HasNoMembers(err error) bool {
	var re *RequestError
	return errors.As(err, &re) && (re.Code == codes.Unimplemented || re.Code == codes.FailedPrecondition)
}

// SortedMembers returns the members of a cluster in the order of their ids.
func SortedMembers(res *serverpb.ListNodesResponse) []*modelspb.NodeInfo {
	var members []*modelspb.NodeInfo
	for _, id := range slices.Sorted(maps.Keys(res.GetNodes())) {
		members = append(members, res.GetNodes()[id])
	}
	return members
}

// Each runs ask for every address at the same time, each through a
// client that knows only that address, and returns the answers in order.
func Each[T any](c *Client, addrs []string, ask func(one *Client, addr string) T) []T {
	answers := make([]T, len(addrs))
	var group sync.WaitGroup
	for i, addr := range addrs {
		group.Go(func() {
			one := c.To(addr)
			defer one.Close()
			answers[i] = ask(one, addr)
		})
	}
	group.Wait()
	return answers
}
