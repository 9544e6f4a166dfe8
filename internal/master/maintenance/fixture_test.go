package maintenance

import (
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is a deadline that is not expected to be met.
const patience = testkit.Patience

var limits = master.Limits{Key: 64, Value: 1024, Batch: 4096, Response: 8192}

var info = NodeInfo{
	ID: "n1", Name: "node-1", Version: "v1.2.3", Role: "none", Engine: "memory", DC: "dc1", Database: "db",
	Address: "10.0.0.1:8080", HTTPAddress: "10.0.0.1:8081", Started: time.Now(),
}

// rig is a node as clients see it, with this service and that for keys.
type rig struct{ *mastertest.Node }

func newRig(t testing.TB) *rig {
	t.Helper()
	return &rig{mastertest.New(t, func(n *mastertest.Node) func(grpc.ServiceRegistrar) {
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, master.NewKV(n.Keyspace, limits, nil))
			node := New(n.Keyspace, info, nil)
			serverpb.RegisterDKVNodeServer(s, node)
			serverpb.RegisterDKVClusterServer(s, node)
		}
	}, nil)}
}

// newCluster starts nodes with the same services, of which the first owns all vBuckets.
func newCluster(t testing.TB, nodes, vBuckets int) *mastertest.Cluster {
	t.Helper()
	return mastertest.NewCluster(t, nodes, vBuckets, func(n *mastertest.Member) func(grpc.ServiceRegistrar) {
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, master.NewKV(n.Keyspace, limits, n.Router))
			serverpb.RegisterDKVNodeServer(s, New(n.Keyspace, NodeInfo{Address: n.Addr}, n.Router))
		}
	})
}

// second is the error of a call.
func second[T any](_ T, err error) error { return err }
