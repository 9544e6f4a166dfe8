package master

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/backups"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is a deadline that is not expected to be met.
const patience = testkit.Patience

var (
	limits        = Limits{Key: 64, Value: 1024, Batch: 4096, Response: 8192}
	clusterLimits = Limits{Key: 64, Value: 1 << 20, Batch: 1 << 20, Response: 2 << 20}
)

// rig is a node as clients see it, with all services.
type rig struct{ *mastertest.Node }

type change func(*local.Options, *Limits)

func newRig(t testing.TB, changes ...change) *rig {
	t.Helper()
	limits := limits
	services := func(n *mastertest.Node) func(grpc.ServiceRegistrar) {
		changes := replication.New(n.Keyspace, nil)
		t.Cleanup(changes.Close)
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, NewKV(n.Keyspace, limits, nil))
			serverpb.RegisterDKVReplicationServer(s, changes)
			serverpb.RegisterDKVBackupRestoreServer(s, backups.New(n.Keyspace, n.Root, nil))
			node := maintenance.New(n.Keyspace, maintenance.NodeInfo{Address: "10.0.0.1:8080"}, nil)
			serverpb.RegisterDKVNodeServer(s, node)
			serverpb.RegisterDKVClusterServer(s, node)
		}
	}
	return &rig{mastertest.New(t, services, func(o *local.Options) {
		for _, c := range changes {
			c(o, &limits)
		}
	})}
}

// newCluster starts nodes with the services for keys and nodes, of which the first owns all
// vBuckets.
func newCluster(t testing.TB, nodes, vBuckets int) *mastertest.Cluster {
	t.Helper()
	return mastertest.NewCluster(t, nodes, vBuckets, func(n *mastertest.Member) func(grpc.ServiceRegistrar) {
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, NewKV(n.Keyspace, clusterLimits, n.Router))
			serverpb.RegisterDKVNodeServer(s, maintenance.New(n.Keyspace, maintenance.NodeInfo{Address: n.Addr}, n.Router))
		}
	})
}
