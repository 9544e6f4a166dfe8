package replication

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/backups"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is a deadline that is not expected to be met.
const patience = testkit.Patience

var (
	limits        = master.Limits{Key: 64, Value: 1024, Batch: 4096, Response: 8192}
	clusterLimits = master.Limits{Key: 64, Value: 1 << 20, Batch: 1 << 20, Response: 2 << 20}
)

// rig is a node as clients see it, with the services for keys, changes and backups.
type rig struct {
	*mastertest.Node
	service *Service // behind Replication
}

func newRig(t testing.TB, changes ...func(*master.Limits)) *rig {
	t.Helper()
	r, limits := &rig{}, limits
	for _, change := range changes {
		change(&limits)
	}
	r.Node = mastertest.New(t, func(n *mastertest.Node) func(grpc.ServiceRegistrar) {
		r.service = New(n.Keyspace, nil)
		r.service.listened()
		t.Cleanup(r.service.Close)
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, master.NewKV(n.Keyspace, limits, nil))
			serverpb.RegisterDKVReplicationServer(s, r.service)
			serverpb.RegisterDKVBackupRestoreServer(s, backups.New(n.Keyspace, n.Root, nil))
			serverpb.RegisterDKVNodeServer(s, maintenance.New(n.Keyspace, maintenance.NodeInfo{}, nil))
		}
	}, nil)
	return r
}

// cluster is nodes with the services for keys, changes and nodes.
type cluster struct {
	*mastertest.Cluster
	services []*Service // by node
}

func newCluster(t testing.TB, nodes, vBuckets int, changes ...func(*mastertest.Cluster)) *cluster {
	t.Helper()
	c := &cluster{}
	c.Cluster = mastertest.NewCluster(t, nodes, vBuckets, func(n *mastertest.Member) func(grpc.ServiceRegistrar) {
		service := New(n.Keyspace, n.Router)
		service.listened()
		t.Cleanup(service.Close)
		c.services = append(c.services, service)
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, master.NewKV(n.Keyspace, clusterLimits, n.Router))
			serverpb.RegisterDKVNodeServer(s, maintenance.New(n.Keyspace, maintenance.NodeInfo{Address: n.Addr}, n.Router))
			serverpb.RegisterDKVReplicationServer(s, service)
		}
	}, changes...)
	return c
}
