package role

import (
	"context"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/backups"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/route"
)

// Services are what a node serves over its replicas by gRPC. Which of them are
// registered is for the role to say.
type Services struct {
	Node *maintenance.Node
	// KV serves keys.
	KV          serverpb.DKVServer
	Backup      *backups.Service
	Replication *replication.Service
	// Promote promotes the node, and reports each step.
	Promote func(ctx context.Context, r *serverpb.PromoteRequest, report func(*serverpb.PromoteProgress) error) error
	// Membership changes the cluster.
	Membership serverpb.DKVClusterServer

	// sizes are the limits of requests, in bytes.
	sizes    master.Limits
	keyspace *route.Keyspace
	router   *route.Router
}

// NewServices makes the services over the replicas of a role that is open.
func NewServices(n *node.Node, r Role) (*Services, error) {
	var parts []route.VBucket
	for _, v := range r.VBuckets() {
		parts = append(parts, route.VBucket{Name: v.Name, Replica: v.Replica})
	}
	limits := n.Config.Limits
	s := &Services{keyspace: route.NewKeyspace(parts...), router: r.Router(), sizes: master.Limits{
		Key:      int(limits.KeySize),
		Value:    int(limits.ValueSize),
		Batch:    int(limits.BatchSize),
		Response: int(limits.MessageSize),
	}}
	backupDir, err := filepath.Abs(n.Config.Storage.BackupDir)
	if err != nil {
		return nil, fmt.Errorf("backup-dir: %w", err)
	}
	if err := backup.SweepBelow(backupDir); err != nil {
		n.Log.Warn("cannot look for leftovers of backups", "backup-dir", backupDir, "error", err)
	}
	s.KV = master.NewKV(s.keyspace, s.sizes, s.router)
	s.Node = maintenance.New(s.keyspace, n.Info, s.router)
	s.Node.ServeLogLevel(func(r *serverpb.SetLogLevelRequest) (*serverpb.LogLevels, error) { return SetLogLevel(n.Log, r) })
	s.Node.ShowTasks(&n.Tasks)
	s.Membership = r.Membership(s.Node)
	s.Backup = backups.New(s.keyspace, backupDir, r.Lead())
	s.Backup.ReportTo(&n.Tasks)
	s.Backup.Keeps(n.Layout.Database)
	s.Replication = replication.New(s.keyspace, s.router)
	n.OnClose(func() error { s.Replication.Close(); return nil })
	return s, nil
}

// Memory is how many bytes a call may hold beyond what every call does; see
// server.Options.
func (s *Services) Memory(method string, req any) int64 {
	return s.sizes.Memory(method, req) + replication.Memory(method, req)
}

// RegisterData registers the services of a node that keeps keys.
func (s *Services) RegisterData(r grpc.ServiceRegistrar) {
	serverpb.RegisterDKVServer(r, s.KV)
	serverpb.RegisterDKVReplicationServer(r, s.Replication)
	serverpb.RegisterDKVBackupRestoreServer(r, s.Backup)
}

// Elsewhere says who serves what a node of the named role does not; empty for a service
// that no role of dkvsrv has.
func Elsewhere(name, service string) string {
	switch service {
	case serverpb.DKVDiscovery_ServiceDesc.ServiceName:
		return "this node is " + name + " and keeps no registry; ask a node of --role discovery"
	case serverpb.DKV_ServiceDesc.ServiceName, serverpb.DKVReplication_ServiceDesc.ServiceName, serverpb.DKVBackupRestore_ServiceDesc.ServiceName:
		return "this node is " + name + " and keeps no keys; ask a master or a slave (dkvctl -clusterInfo lists those that it knows)"
	case peerpb.Members_ServiceDesc.ServiceName:
		return "this node is " + name + " and no member of a cluster; ask a master"
	}
	return ""
}
