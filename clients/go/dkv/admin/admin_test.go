package admin

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// recorded is a connection that notes requests and answers them.
type recorded struct {
	method string
	req    proto.Message
	resp   proto.Message
	err    error
}

func (r *recorded) Invoke(_ context.Context, method string, req, resp any, _ ...grpc.CallOption) error {
	r.method, r.req = method, req.(proto.Message)
	if r.resp != nil {
		proto.Merge(resp.(proto.Message), r.resp)
	}
	return r.err
}

func (r *recorded) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("calls do not stream")
}

var errRefused = errors.New("refused")

// Each call sends its arguments, and returns a failure however it is reported.
func TestCalls(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct {
		method string
		call   func(grpc.ClientConnInterface) error
		want   proto.Message
		// failed is a response that reports a failure; nil if it cannot.
		failed proto.Message
	}{
		{serverpb.DKVCluster_AddNode_FullMethodName, func(c grpc.ClientConnInterface) error { return AddNode(ctx, c, "u", true) },
			&serverpb.AddNodeRequest{NodeUrl: "u", NonVoting: true}, failure},
		{serverpb.DKVCluster_RemoveNode_FullMethodName, func(c grpc.ClientConnInterface) error { return RemoveNode(ctx, c, "u", true) },
			&serverpb.RemoveNodeRequest{NodeUrl: "u", Force: true}, failure},
		{serverpb.DKVCluster_ListNodes_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := ListNodes(ctx, c); return err },
			&emptypb.Empty{}, &serverpb.ListNodesResponse{Status: failure}},
		{serverpb.DKVCluster_TransferLeader_FullMethodName, func(c grpc.ClientConnInterface) error { return TransferLeader(ctx, c, "u", "v") },
			&serverpb.TransferLeaderRequest{NodeUrl: "u", VBucket: "v"}, failure},
		{serverpb.DKVCluster_StepDown_FullMethodName, func(c grpc.ClientConnInterface) error { return StepDown(ctx, c) }, &emptypb.Empty{}, failure},
		{serverpb.DKVCluster_Snapshot_FullMethodName, func(c grpc.ClientConnInterface) error { return Snapshot(ctx, c, "v") }, &serverpb.SnapshotRequest{VBucket: "v"}, failure},
		{serverpb.DKVNode_GetNodeStatus_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := NodeStatus(ctx, c); return err }, &emptypb.Empty{}, nil},
		{serverpb.DKVNode_PauseWrites_FullMethodName, func(c grpc.ClientConnInterface) error { return PauseWrites(ctx, c) }, &emptypb.Empty{}, failure},
		{serverpb.DKVNode_ResumeWrites_FullMethodName, func(c grpc.ClientConnInterface) error { return ResumeWrites(ctx, c) }, &emptypb.Empty{}, failure},
		{serverpb.DKVNode_SetClock_FullMethodName, func(c grpc.ClientConnInterface) error { return SetClock(ctx, c, time.UnixMilli(7000)) },
			&serverpb.SetClockRequest{ClockMillis: 7000}, failure},
		{serverpb.DKVNode_SetClock_FullMethodName, func(c grpc.ClientConnInterface) error { return SetClock(ctx, c, time.Time{}) },
			&serverpb.SetClockRequest{}, failure},
		{serverpb.DKVNode_GetContentHash_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := ContentHash(ctx, c, "v"); return err },
			&serverpb.ContentHashRequest{VBucket: "v"}, nil},
		{serverpb.DKVBackupRestore_Backup_FullMethodName, func(c grpc.ClientConnInterface) error { return Backup(ctx, c, "p") },
			&serverpb.BackupRequest{BackupPath: "p"}, failure},
		{serverpb.DKVBackupRestore_Restore_FullMethodName, func(c grpc.ClientConnInterface) error { return Restore(ctx, c, "p") },
			&serverpb.RestoreRequest{RestorePath: "p", Own: true}, failure},
		{serverpb.DKVBackupRestore_Restore_FullMethodName, func(c grpc.ClientConnInterface) error { return RestoreForced(ctx, c, "p") },
			&serverpb.RestoreRequest{RestorePath: "p", Force: true}, failure},
		{serverpb.DKVNode_Resync_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := Resync(ctx, c, "v", true); return err },
			&serverpb.ResyncRequest{VBucket: "v", Force: true}, &serverpb.ResyncResponse{Status: failure}},
		{serverpb.DKVNode_FinishUpgrade_FullMethodName, func(c grpc.ClientConnInterface) error { return FinishUpgrade(ctx, c) }, &serverpb.FinishUpgradeRequest{}, failure},
		{serverpb.DKVNode_SetLogLevel_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := SetLogLevel(ctx, c, "debug", "server"); return err },
			&serverpb.SetLogLevelRequest{Level: "debug", Component: "server"}, nil},
		{serverpb.DKVReplication_GetChanges_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := Changes(ctx, c, "v", 7, 9); return err },
			&serverpb.GetChangesRequest{VBucket: "v", FromChangeNumber: 7, MaxNumberOfChanges: 9}, &serverpb.GetChangesResponse{Status: failure}},
		{serverpb.DKVReplication_AddReplica_FullMethodName, func(c grpc.ClientConnInterface) error { return AddReplica(ctx, c, "z", "h", 80) },
			&serverpb.Replica{Zone: "z", Hostname: "h", Port: 80}, failure},
		{serverpb.DKVReplication_RemoveReplica_FullMethodName, func(c grpc.ClientConnInterface) error { return RemoveReplica(ctx, c, "z", "h", 80) },
			&serverpb.Replica{Zone: "z", Hostname: "h", Port: 80}, failure},
		{serverpb.DKVReplication_GetReplicas_FullMethodName, func(c grpc.ClientConnInterface) error { _, err := Replicas(ctx, c, "z"); return err },
			&serverpb.GetReplicasRequest{Zone: "z"}, nil},
		{serverpb.DKVDiscovery_GetClusterInfo_FullMethodName, func(c grpc.ClientConnInterface) error {
			_, err := ClusterInfo(ctx, c, Filter{Database: "d"})
			return err
		}, &serverpb.GetClusterInfoRequest{Database: proto.String("d")}, nil},
		{serverpb.DKVDiscovery_ReleaseDatabase_FullMethodName, func(c grpc.ClientConnInterface) error { return ReleaseDatabase(ctx, c, "d") },
			&serverpb.ReleaseDatabaseRequest{Database: "d"}, failure},
	} {
		t.Run(c.method, func(t *testing.T) {
			r := &recorded{}
			if err := c.call(r); err != nil {
				t.Fatal(err)
			}
			if r.method != c.method || !proto.Equal(r.req, c.want) {
				t.Errorf("sent %s %v", r.method, r.req)
			}
			r.err = errRefused
			if err := c.call(r); !errors.Is(err, errRefused) {
				t.Error(err)
			}
			if c.failed == nil {
				return
			}
			r.resp, r.err = c.failed, nil
			if err := c.call(r); status.Code(err) != codes.Unknown || status.Convert(err).Message() != "no" {
				t.Error(err)
			}
		})
	}
}

var failure = &serverpb.Status{Code: -1, Message: "no"}

func TestListNodes(t *testing.T) {
	r := &recorded{resp: &serverpb.ListNodesResponse{Leader: 2, Nodes: map[uint64]*modelspb.NodeInfo{2: {NodeId: 2}}}}
	if got, err := ListNodes(t.Context(), r); err != nil || got.GetLeader() != 2 || got.GetNodes()[2].GetNodeId() != 2 {
		t.Errorf("%v, %v", got, err)
	}
}
