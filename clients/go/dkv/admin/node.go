package admin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// NodeStatus returns the status of a node and of each of its vBuckets.
func NodeStatus(ctx context.Context, conn grpc.ClientConnInterface) (*serverpb.NodeStatusResponse, error) {
	return serverpb.NewDKVNodeClient(conn).GetNodeStatus(ctx, &emptypb.Empty{})
}

// PauseWrites makes a node reject mutations until ResumeWrites, through restarts too.
// Reads continue.
func PauseWrites(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVNodeClient(conn).PauseWrites(ctx, &emptypb.Empty{}))
}

// SetClock sets the clock of every vBucket's log, forward or back. A zero time means the
// time that a majority of the members' clocks agree on; a time too far from that is
// rejected.
func SetClock(ctx context.Context, conn grpc.ClientConnInterface, to time.Time) error {
	var ms uint64
	if !to.IsZero() {
		ms = uint64(max(to.UnixMilli(), 1))
	}
	return Check(serverpb.NewDKVNodeClient(conn).SetClock(ctx, &serverpb.SetClockRequest{ClockMillis: ms}))
}

// Resync orders a slave to replace its copy of a vBucket by a master's state. An empty
// name means each vBucket that waits for this order, or with force all of them. The copy
// stays until the new one is complete.
func Resync(ctx context.Context, conn grpc.ClientConnInterface, vBucket string, force bool) ([]*serverpb.ResyncOrder, error) {
	resp, err := serverpb.NewDKVNodeClient(conn).Resync(ctx, &serverpb.ResyncRequest{VBucket: vBucket, Force: force})
	return resp.GetOrders(), Check(resp.GetStatus(), err)
}

// CancelResync withdraws such orders, if they are not carried out yet. An empty name means
// each vBucket that has one.
func CancelResync(ctx context.Context, conn grpc.ClientConnInterface, vBucket string) ([]*serverpb.ResyncOrder, error) {
	resp, err := serverpb.NewDKVNodeClient(conn).CancelResync(ctx, &serverpb.CancelResyncRequest{VBucket: vBucket})
	return resp.GetOrders(), Check(resp.GetStatus(), err)
}

// FinishUpgrade raises the version of the cluster to the newest that its members understand.
// Earlier releases no longer start on its nodes' folders then.
func FinishUpgrade(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVNodeClient(conn).FinishUpgrade(ctx, &serverpb.FinishUpgradeRequest{}))
}

// SetTiming allows the members of a cluster to change to another timing, such as lan or
// wan: from then on each may be restarted with it. See SetTimingRequest.
func SetTiming(ctx context.Context, conn grpc.ClientConnInterface, timing string) error {
	return Check(serverpb.NewDKVNodeClient(conn).SetTiming(ctx, &serverpb.SetTimingRequest{Timing: timing}))
}

// SetLogLevel changes the least severe level that a node logs, of all lines if component is
// empty, until it is started again. An empty level takes the component's own level away, and
// if both are empty nothing changes. It returns the levels in use.
func SetLogLevel(ctx context.Context, conn grpc.ClientConnInterface, level, component string) (*serverpb.LogLevels, error) {
	return serverpb.NewDKVNodeClient(conn).SetLogLevel(ctx, &serverpb.SetLogLevelRequest{Level: level, Component: component})
}

// ResumeWrites makes a node accept mutations again.
func ResumeWrites(ctx context.Context, conn grpc.ClientConnInterface) error {
	return Check(serverpb.NewDKVNodeClient(conn).ResumeWrites(ctx, &emptypb.Empty{}))
}

// ContentHash returns a hash of a vBucket's state at one log index: equal hashes at
// equal indexes of one history mean equal keys, values and expiry times. An empty name
// means the node's only vBucket.
func ContentHash(ctx context.Context, conn grpc.ClientConnInterface, vBucket string) (*serverpb.ContentHashResponse, error) {
	return serverpb.NewDKVNodeClient(conn).GetContentHash(ctx, &serverpb.ContentHashRequest{VBucket: vBucket})
}

// Backup writes a consistent copy of the node's keyspace into a new folder. path is
// relative to the server's backup-dir, or absolute and inside it.
func Backup(ctx context.Context, conn grpc.ClientConnInterface, path string) error {
	return Check(serverpb.NewDKVBackupRestoreClient(conn).Backup(ctx, &serverpb.BackupRequest{BackupPath: path}))
}

// Restore replaces the whole keyspace by a backup of the same database after verifying its
// checksums. Change numbers continue under a new history.
func Restore(ctx context.Context, conn grpc.ClientConnInterface, path string) error {
	return Check(serverpb.NewDKVBackupRestoreClient(conn).Restore(ctx, &serverpb.RestoreRequest{RestorePath: path, Own: true}))
}

// RestoreForced is Restore, also with the backup of another database of as many vBuckets, or with
// one whose vBuckets are of several backups.
func RestoreForced(ctx context.Context, conn grpc.ClientConnInterface, path string) error {
	return Check(serverpb.NewDKVBackupRestoreClient(conn).Restore(ctx, &serverpb.RestoreRequest{RestorePath: path, Force: true}))
}
