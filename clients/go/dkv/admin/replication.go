package admin

import (
	"context"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Changes returns the changes of a vBucket from a change number on, inclusive, at most
// most of them; 0 leaves the limit to the server. An empty name means the node's only
// vBucket. Applications should use dkv.Client.Watch.
func Changes(ctx context.Context, conn grpc.ClientConnInterface, vBucket string, from uint64, most uint32) (*serverpb.GetChangesResponse, error) {
	out, err := serverpb.NewDKVReplicationClient(conn).GetChanges(ctx,
		&serverpb.GetChangesRequest{VBucket: vBucket, FromChangeNumber: from, MaxNumberOfChanges: most})
	return out, Check(out.GetStatus(), err)
}

// AddReplica adds a slave to the list of slaves until RemoveReplica, or until the master
// has not heard of it for five minutes. This call, and asking a master for changes, renew
// it.
func AddReplica(ctx context.Context, conn grpc.ClientConnInterface, zone, host string, port uint16) error {
	return Check(serverpb.NewDKVReplicationClient(conn).AddReplica(ctx, replica(zone, host, port)))
}

// RemoveReplica removes a slave from the list.
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

// Filter selects rows of a registry; an empty field matches any.
type Filter struct{ DC, Database, VBucket string }

// ClusterInfo returns the rows of a registry that match, those of live nodes only.
func ClusterInfo(ctx context.Context, conn grpc.ClientConnInterface, f Filter) ([]*serverpb.RegionInfo, error) {
	out, err := serverpb.NewDKVDiscoveryClient(conn).GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{
		DcID: unlessEmpty(f.DC), Database: unlessEmpty(f.Database), VBucket: unlessEmpty(f.VBucket)})
	return out.GetRegionInfos(), err
}

// ReleaseDatabase removes the claim of a cluster to a database's name in a registry, so
// that another cluster may register under it.
func ReleaseDatabase(ctx context.Context, conn grpc.ClientConnInterface, database string) error {
	return Check(serverpb.NewDKVDiscoveryClient(conn).ReleaseDatabase(ctx, &serverpb.ReleaseDatabaseRequest{Database: database}))
}

func unlessEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
