package backups

import (
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/mastertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newRig starts a node with this service and that for keys.
func newRig(t testing.TB) *mastertest.Node {
	t.Helper()
	return mastertest.New(t, func(n *mastertest.Node) func(grpc.ServiceRegistrar) {
		return func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, master.NewKV(n.Keyspace, master.Limits{Key: 64, Value: 1024, Batch: 4096, Response: 8192}, nil))
			serverpb.RegisterDKVBackupRestoreServer(s, New(n.Keyspace, n.Root, nil))
		}
	}, nil)
}
