package admin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// NodeStatus reports a node and each of its vBuckets.
func NodeStatus(ctx context.Context, conn grpc.ClientConnInterface) (*serverpb.NodeStatusResponse, error) {
	return serverpb.NewDKVNodeClient(conn).GetNodeStatus(ctx, &emptypb.Empty{})
}

// PauseWrites makes a node refuse mutations, also after a restart; reads go on.
func PauseWrites(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVNodeClient(conn).PauseWrites(ctx, &emptypb.Empty{}))
}

// SetClock sets the clock of the log of every vBucket, also back; a zero time stands
// for what a majority of the members' clocks say. It is refused where the time is too
// far from that.
func SetClock(ctx context.Context, conn grpc.ClientConnInterface, to time.Time) error {
	var ms uint64
	if !to.IsZero() {
		ms = uint64(max(to.UnixMilli(), 1))
	}
	return Check(serverpb.NewDKVNodeClient(conn).SetClock(ctx, &serverpb.SetClockRequest{ClockMillis: ms}))
}

// Resync orders a slave to give up its copy of a vBucket (empty: of each that waits for
// this order, or with force of all) for a master's state. The copy stays until the new one
// is whole.
func Resync(ctx context.Context, conn grpc.ClientConnInterface, vBucket string, force bool) ([]*serverpb.ResyncOrder, error) {
	resp, err := serverpb.NewDKVNodeClient(conn).Resync(ctx, &serverpb.ResyncRequest{VBucket: vBucket, Force: force})
	return resp.GetOrders(), Check(resp.GetStatus(), err)
}

// SetTiming has the members of a cluster change to another timing, such as lan or wan;
// see SetTimingRequest. Each may be restarted with it from then on.
func SetTiming(ctx context.Context, conn grpc.ClientConnInterface, timing string) error {
	return Check(serverpb.NewDKVNodeClient(conn).SetTiming(ctx, &serverpb.SetTimingRequest{Timing: timing}))
}

// ResumeWrites ends what PauseWrites began.
func ResumeWrites(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVNodeClient(conn).ResumeWrites(ctx, &emptypb.Empty{}))
}

// ContentHash hashes a vBucket as it is at one log index: equal hashes at equal
// indexes of one history mean equal keys, values and expiry times. An empty name
// means the node's only vBucket.
func ContentHash(ctx context.Context, conn grpc.ClientConnInterface, vBucket string) (*serverpb.ContentHashResponse, error) {
	return serverpb.NewDKVNodeClient(conn).GetContentHash(ctx, &serverpb.ContentHashRequest{VBucket: vBucket})
}

// Backup writes a consistent copy of the node's keyspace into a new folder. path is
// relative to the server's backup-dir, or absolute and inside it.
func Backup(ctx context.Context, conn grpc.ClientConnInterface, path string) error {
	return Check(serverpb.NewDKVBackupRestoreClient(conn).Backup(ctx, &serverpb.BackupRequest{BackupPath: path}))
}

// Restore replaces the whole keyspace by a backup, once its checksums hold. Change
// numbers go on under a new history.
func Restore(ctx context.Context, conn grpc.ClientConnInterface, path string) error {
	return Check(serverpb.NewDKVBackupRestoreClient(conn).Restore(ctx, &serverpb.RestoreRequest{RestorePath: path}))
}
