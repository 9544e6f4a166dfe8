package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/telemetry"
)

// assemble makes the services over the replicas and the server around them.
func (n *node) assemble() error {
	limits := n.cfg.Limits
	sizes := master.Limits{
		Key:      int(limits.KeySize),
		Value:    int(limits.ValueSize),
		Batch:    int(limits.BatchSize),
		Response: int(limits.MessageSize),
	}
	var parts []route.VBucket
	for _, v := range n.vBuckets {
		parts = append(parts, route.VBucket{Name: v.name, Replica: v.hosted})
	}
	keyspace := route.NewKeyspace(parts...)
	backupDir, err := filepath.Abs(n.cfg.Storage.BackupDir)
	if err != nil {
		return fmt.Errorf("backup-dir: %w", err)
	}
	if err := backup.Sweep(backupDir); err != nil {
		n.log.Warn("cannot look for leftovers of backups", "backup-dir", backupDir, "error", err)
	}
	n.node = master.NewNode(keyspace, n.info, n.router)
	var lead func(context.Context, string) error
	if n.cluster != nil {
		lead = n.cluster.Lead
	}
	n.backup = master.NewBackup(keyspace, backupDir, lead)
	n.replication = replication.New(keyspace, n.router)
	n.onClose(func() error { n.replication.Close(); return nil })
	if n.cfg.Role == config.RoleDiscovery {
		if err := n.newRegistry(); err != nil {
			return err
		}
	}
	n.joinRegistry()
	n.metrics.MustRegister(newCollector(n), newClockCollector(n))
	n.grpc = server.New(server.Options{
		Listener: n.grpcListener,
		Register: func(r grpc.ServiceRegistrar) {
			serverpb.RegisterDKVClusterServer(r, n.membership())
			if n.cluster != nil {
				peerpb.RegisterMembersServer(r, n.cluster)
			}
			serverpb.RegisterDKVDiscoveryNodeServer(r, regionService{node: n})
			serverpb.RegisterDKVNodeServer(r, n.node)
			if n.registry != nil {
				serverpb.RegisterDKVDiscoveryServer(r, n.registry)
				return // its rows are nobody's keys
			}
			serverpb.RegisterDKVServer(r, master.NewKV(keyspace, sizes, n.router))
			serverpb.RegisterDKVReplicationServer(r, n.replication)
			serverpb.RegisterDKVBackupRestoreServer(r, n.backup)
		},
		MaxConnections:        limits.Connections,
		MaxConnectionsPerHost: limits.ConnectionsPerHost,
		MaxMessageSize:        int(limits.MessageSize),
		MaxInFlight:           limits.RequestsInFlight,
		MaxStreams:            limits.Streams,
		MaxMemory:             int64(limits.MemoryInFlight),
		Memory: func(method string, req any) int64 {
			return sizes.Memory(method, req) + replication.Memory(method, req)
		},
		StallTimeout:   limits.StreamStall,
		SlowThreshold:  n.cfg.Log.SlowThreshold,
		Audited:        master.Audited,
		Administrative: master.Administrative,
		Admit:          n.admitAdmin,
		NotHere:        n.notHere,
		DrainTimeout:   n.cfg.Ops.DrainTimeout,
		Metrics:        n.metrics,
		Log:            n.log,
		Audit:          n.audit,
	})
	n.onClose(func() error { n.grpc.Close(); return nil })
	return nil
}

// notHere says who serves what this node's role does not.
func (n *node) notHere(service string) string {
	isRegistry := n.cfg.Role == config.RoleDiscovery
	switch service {
	case serverpb.DKVDiscovery_ServiceDesc.ServiceName:
		if !isRegistry {
			return "this node is " + n.role() + " and keeps no registry; ask a node of --role discovery"
		}
	case serverpb.DKV_ServiceDesc.ServiceName, serverpb.DKVReplication_ServiceDesc.ServiceName, serverpb.DKVBackupRestore_ServiceDesc.ServiceName:
		if isRegistry {
			return "this node is " + n.role() + " and keeps no keys; ask a master or a slave (dkvctl -clusterInfo lists those that it knows)"
		}
	case peerpb.Members_ServiceDesc.ServiceName:
		if n.cluster == nil {
			return "this node is " + n.role() + " and no member of a cluster; ask a master"
		}
	}
	return ""
}

// role is what this node is called in a sentence.
func (n *node) role() string {
	switch n.cfg.Role {
	case config.RoleMaster:
		return "a master"
	case config.RoleSlave:
		return "a slave"
	case config.RoleDiscovery:
		return "a node of the registry"
	default:
		return "standalone"
	}
}

// membership serves what concerns the members of the cluster; a node that is
// alone has none.
func (n *node) membership() serverpb.DKVClusterServer {
	if n.cluster != nil {
		return n.cluster
	}
	return n.node
}

// auditLog opens the file for administrative calls; nil means the common log.
func (n *node) auditLog() (*slog.Logger, error) {
	if n.cfg.Log.Audit == "" {
		return nil, nil
	}
	f, err := os.OpenFile(n.cfg.Log.Audit, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("audit-log: %w; name a file that this user may write to", err)
	}
	n.onClose(f.Close)
	return telemetry.NewLogger(telemetry.LogOptions{
		Writer: io.Writer(f),
		JSON:   n.cfg.Log.Format == config.LogJSON,
		Level:  slog.LevelInfo,
		Node:   n.cfg.Node.Name,
	}), nil
}
