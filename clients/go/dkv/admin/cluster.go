package admin

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// AddNode makes a node that waits to join a member of the cluster, and returns when
// it has caught up in every vBucket and, unless it is to be non-voting, votes. url
// is its Raft address, http://host:port. It may take minutes: the context has to
// allow them. Asked again, it goes on where it was.
func AddNode(ctx context.Context, conn grpc.ClientConnInterface, url string, nonVoting bool) error {
	return Check(serverpb.NewDKVClusterClient(conn).AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: url, NonVoting: nonVoting}))
}

// RemoveNode puts a member out for good. It is refused where the rest would have no
// majority that is up, unless it is forced.
func RemoveNode(ctx context.Context, conn grpc.ClientConnInterface, url string, force bool) error {
	return Check(serverpb.NewDKVClusterClient(conn).RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: url, Force: force}))
}

// ListNodes lists the members of the node's cluster by their ids, and tells which of
// them leads the first vBucket; 0 where no majority tells.
func ListNodes(ctx context.Context, conn grpc.ClientConnInterface) (*serverpb.ListNodesResponse, error) {
	out, err := serverpb.NewDKVClusterClient(conn).ListNodes(ctx, &emptypb.Empty{})
	return out, Check(out.GetStatus(), err)
}

// TransferLeader makes another member lead a vBucket, and returns when it does. An
// empty url means any other member, an empty vBucket all of them.
func TransferLeader(ctx context.Context, conn grpc.ClientConnInterface, url, vBucket string) error {
	return Check(serverpb.NewDKVClusterClient(conn).TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: url, VBucket: vBucket}))
}

// StepDown makes the node hand over all that it leads.
func StepDown(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVClusterClient(conn).StepDown(ctx, &emptypb.Empty{}))
}

// Snapshot makes the node's state durable and cuts its log behind it.
func Snapshot(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVClusterClient(conn).Snapshot(ctx, &emptypb.Empty{}))
}
