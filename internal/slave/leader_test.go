package slave

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// TestLeaderWithoutDiscovery has discovery be away when the leader dies: the master
// that is followed knows who leads now.
func TestLeaderWithoutDiscovery(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		known := []*serverpb.RegionInfo{m.row(leader), twin.row(primary)}
		rows.Set(known, true)
		s := r.slave(rows, mode)
		s.has(m)
		leads := func(want string) {
			t.Helper()
			time.Sleep(2 * leaderInterval)
			if at := s.Owner().Address; at != want {
				t.Errorf("the leader is at %q, want %q", at, want)
			}
		}
		leads("m1:1")
		rows.Set(known, false)
		m.kill()
		twin.lead("m3:1")
		leads("m3:1")
		twin.lead("") // there is none at present
		leads("")
		// Discovery is back, and has not noticed yet.
		rows.Set(known, true)
		leads("m1:1")
		twin.lead("m4:1")
		leads("m4:1")
		// If no node names a leader, the known one stays.
		rows.Set(known, false)
		twin.kill()
		leads("m4:1")
	})
}

// lead has a twin say who leads.
func (n *node) lead(address string) { n.Replica.(*follower.Replica).SetLeader(address) }

// TestLeaderChanges has discovery tell of a new leader: that is not waited for.
func TestLeaderChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary)}, true)
		s := r.slave(rows, streaming)
		s.has(m)
		time.Sleep(time.Minute + leaderInterval/2)
		promoted := twin.row(leader)
		rows.Set([]*serverpb.RegionInfo{m.row(secondary), promoted}, true)
		synctest.Wait()
		if at := s.Owner().Address; at != "m2:1" {
			t.Errorf("the leader is at %q", at)
		}
	})
}
