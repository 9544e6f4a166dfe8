package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// AddNode makes a node that waits to join a member of the cluster. It returns when the
// node has caught up in every vBucket and votes, unless it is to be non-voting. url is
// the node's Raft address, http://host:port. It may take minutes, which the context must
// allow; a repeated call resumes it.
func AddNode(ctx context.Context, conn grpc.ClientConnInterface, url string, nonVoting bool) error {
	return Check(serverpb.NewDKVClusterClient(conn).AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: url, NonVoting: nonVoting}))
}

// RemoveNode removes a member for good. Without force it is rejected if the remaining
// members would have no majority that is up.
func RemoveNode(ctx context.Context, conn grpc.ClientConnInterface, url string, force bool) error {
	return Check(serverpb.NewDKVClusterClient(conn).RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: url, Force: force}))
}

// ListNodes returns the members of the node's cluster by their ids, and the id of the
// leader of the first vBucket; 0 if no majority knows one.
func ListNodes(ctx context.Context, conn grpc.ClientConnInterface) (*serverpb.ListNodesResponse, error) {
	out, err := serverpb.NewDKVClusterClient(conn).ListNodes(ctx, &emptypb.Empty{})
	return out, Check(out.GetStatus(), err)
}

// TransferLeader makes another member lead a vBucket, and returns when it does. An
// empty url means any other member, an empty vBucket all of them.
func TransferLeader(ctx context.Context, conn grpc.ClientConnInterface, url, vBucket string) error {
	return Check(serverpb.NewDKVClusterClient(conn).TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: url, VBucket: vBucket}))
}

// StepDown makes the node transfer the leadership of every vBucket that it leads.
func StepDown(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVClusterClient(conn).StepDown(ctx, &emptypb.Empty{}))
}

// Snapshot makes the node's state of a vBucket durable and truncates its log up to it. An
// empty vBucket means all of them.
func Snapshot(ctx context.Context, conn grpc.ClientConnInterface, vBucket string) error {
	return Check(serverpb.NewDKVClusterClient(conn).Snapshot(ctx, &serverpb.SnapshotRequest{VBucket: vBucket}))
}
