package slave

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

const (
	leader    = serverpb.RegionStatus_LEADER
	primary   = serverpb.RegionStatus_PRIMARY_FOLLOWER
	secondary = serverpb.RegionStatus_SECONDARY_FOLLOWER
)

// slaveRow is a slave as discovery tells of it.
func slaveRow(addr, dc, master string) *serverpb.RegionInfo {
	out := row(addr, dc, serverpb.RegionStatus_ACTIVE_SLAVE, 0)
	if master != "" {
		out.MasterHost = proto.String(master)
	}
	return out
}

// The last slave of a chain of three goes on at another source when the middle one dies:
// nothing is lost, and nothing is applied again.
func TestChainOfThreeLosesItsMiddle(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 200, 10)
		middle := r.slave(source.Fixed("m1:1"), mode)
		middle.has(m)
		served := r.serve("s1:1", middle.Replica)
		rows := source.NewChainedRows("db", "west", "s2:1")
		master := m.row(leader)
		master.DcID = "east"
		rows.Set([]*serverpb.RegionInfo{master, slaveRow("s1:1", "west", "m1:1")}, true)
		last := r.slave(rows, mode, func(o *Options, _ *follower.Options) { o.DC = "west" })
		last.has(m)
		follows := func(master string) func() bool {
			return func() bool {
				s := last.Puller.Status()
				return s.Phase == Following && s.Master == master
			}
		}
		testkit.Eventually(t, "the last slave follows the middle one", follows("s1:1"))
		sum := m.write(kv.Mutation{Key: []byte("sum"), Value: []byte("1")})
		testkit.Eventually(t, "the change has come through the chain", func() bool { _, at := last.Position(); return at >= sum })
		m.fill("more", 500, 10)
		served.kill()
		middle.stop()
		m.fill("evenmore", 300, 10)
		testkit.Eventually(t, "the last slave follows the master", follows("m1:1"))
		last.has(m) // also compares the records of changes
		if n := last.Puller.Status().Bootstraps; n != 1 {
			t.Errorf("%d bootstraps", n)
		}
	})
}
