package admin

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Changes returns the changes of a vBucket from a number on, inclusive, at most so
// many; 0 leaves that to the server. An empty name means the node's only vBucket.
// Applications watch instead: see dkv.Client.Watch.
func Changes(ctx context.Context, conn grpc.ClientConnInterface, vBucket string, from uint64, most uint32) (*serverpb.GetChangesResponse, error) {
	out, err := serverpb.NewDKVReplicationClient(conn).GetChanges(ctx,
		&serverpb.GetChangesRequest{VBucket: vBucket, FromChangeNumber: from, MaxNumberOfChanges: most})
	return out, Check(out.GetStatus(), err)
}

// AddReplica lists a slave until RemoveReplica, or until it is not heard of for five
// minutes: it renews itself with the same call, or by asking a master for changes.
func AddReplica(ctx context.Context, conn grpc.ClientConnInterface, zone, host string, port uint16) error {
	return Check(serverpb.NewDKVReplicationClient(conn).AddReplica(ctx, replica(zone, host, port)))
}

// RemoveReplica takes a slave from the list.
func RemoveReplica(ctx context.Context, conn grpc.ClientConnInterface, zone, host string, port uint16) error {
	return Check(serverpb.NewDKVReplicationClient(conn).RemoveReplica(ctx, replica(zone, host, port)))
}

func replica(zone, host string, port uint16) *serverpb.Replica {
	return &serverpb.Replica{Zone: zone, Hostname: host, Port: uint32(port)}
}

// Replicas lists the slaves of a zone; an empty one means all.
func Replicas(ctx context.Context, conn grpc.ClientConnInterface, zone string) ([]*serverpb.Replica, error) {
	out, err := serverpb.NewDKVReplicationClient(conn).GetReplicas(ctx, &serverpb.GetReplicasRequest{Zone: zone})
	return out.GetReplicas(), err
}

// Filter says which rows of a registry are wanted; an empty field means any.
type Filter struct{ DC, Database, VBucket string }

// ClusterInfo returns the rows of a registry that match, those of live nodes only.
func ClusterInfo(ctx context.Context, conn grpc.ClientConnInterface, f Filter) ([]*serverpb.RegionInfo, error) {
	out, err := serverpb.NewDKVDiscoveryClient(conn).GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{
		DcID: unlessEmpty(f.DC), Database: unlessEmpty(f.Database), VBucket: unlessEmpty(f.VBucket)})
	return out.GetRegionInfos(), err
}

// ReleaseDatabase takes a database from the cluster that holds it in a registry, so that
// another one may register under its name.
func ReleaseDatabase(ctx context.Context, conn grpc.ClientConnInterface, database string) error {
	return Check(serverpb.NewDKVDiscoveryClient(conn).ReleaseDatabase(ctx, &serverpb.ReleaseDatabaseRequest{Database: database}))
}

func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
