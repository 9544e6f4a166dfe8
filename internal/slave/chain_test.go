package slave

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/testkit"
)

// slaveRow is a slave as discovery tells of it.
func slaveRow(addr, dc, master string) *serverpb.RegionInfo {
	out := row(addr, dc, serverpb.RegionStatus_ACTIVE_SLAVE, 0)
	if master != "" {
		out.MasterHost = proto.String(master)
	}
	return out
}

// Only slaves whose chain ends at a master, and not at the asker, are candidates.
func TestChainsEndAtAMaster(t *testing.T) {
	rows := NewChainedRows("db", "west", "self:1")
	rows.Set([]*serverpb.RegionInfo{
		row("m:1", "east", leader, 0),
		slaveRow("good:1", "west", "m:1"),
		slaveRow("next:1", "west", "good:1"),
		slaveRow("mine:1", "west", "self:1"),
		slaveRow("behind-mine:1", "west", "mine:1"),
		slaveRow("circle:1", "west", "circle2:1"),
		slaveRow("circle2:1", "west", "circle:1"),
		slaveRow("searching:1", "west", ""),
		slaveRow("elsewhere:1", "east", "m:1"),
		slaveRow("self:1", "west", "m:1"),
	}, true)
	var got []string
	for _, s := range rows.Candidates("default") {
		got = append(got, s.Address)
	}
	if want := []string{"m:1", "good:1", "next:1"}; !slices.Equal(got, want) {
		t.Errorf("candidates %v, want %v", got, want)
	}
	plain := NewRows("db")
	plain.Set([]*serverpb.RegionInfo{row("m:1", "east", leader, 0), slaveRow("good:1", "west", "m:1")}, true)
	if got := plain.Candidates("default"); len(got) != 1 {
		t.Errorf("candidates without chains %v", got)
	}
}

// The last slave of a chain of three goes on at another source when the middle one dies:
// nothing is lost, and nothing is applied again.
func TestChainOfThreeLosesItsMiddle(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 200, 10)
		middle := r.slave(Fixed("m1:1"), mode)
		middle.has(m)
		served := r.serve("s1:1", middle.Replica)
		rows := NewChainedRows("db", "west", "s2:1")
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
