package slave

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// Masters that have another address after each start leave no connections behind, but for those of a
// moment ago.
func TestReleasesFormerMasters(t *testing.T) {
	f, err := follower.Open(follower.Options{Options: replicatest.NewRig(t, replicatest.OnDisk).Opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20})
	t.Cleanup(func() { pool.Close() })
	s := &Slave{pool: pool, rows: source.NewRows("db")}
	puller := slave.New(slave.Options{VBucket: "default", State: f, Sources: s.rows, Pool: pool})
	s.copies = []*replicated{{f, puller, s.refused}}
	peers := make(map[int]*peer.Peer)
	masters := func(from, to int) {
		t.Helper()
		var rows []*serverpb.RegionInfo
		for i := from; i <= to; i++ {
			address := fmt.Sprintf("m%d:1", i)
			rows = append(rows, &serverpb.RegionInfo{Database: "db", VBucket: "default", NodeAddress: address, Status: serverpb.RegionStatus_PRIMARY_FOLLOWER})
			if peers[i], err = pool.Peer(address); err != nil {
				t.Fatal(err)
			}
		}
		s.Hear(rows, true)
		s.release()
	}
	stays := func(what string, is func(i int) bool) {
		t.Helper()
		for i, before := range peers {
			now, err := pool.Peer(fmt.Sprintf("m%d:1", i))
			if err != nil {
				t.Fatal(err)
			}
			if (now == before) != is(i) {
				t.Errorf("%s: the connections to master %d are the same: %v", what, i, now == before)
			}
			peers[i] = now
		}
	}
	for i := 1; i <= 5; i++ {
		masters(i, i+1)
	}
	stays("after moves", func(i int) bool { return i >= 4 })
	s.release()
	stays("a moment later", func(i int) bool { return i >= 5 })
	s.Hear([]*serverpb.RegionInfo{{Database: "db", VBucket: "default", NodeAddress: "m6:1", Status: serverpb.RegionStatus_PRIMARY_FOLLOWER}}, true)
	s.release()
	stays("of a moment ago", func(i int) bool { return i >= 5 })
	s.release()
	stays("no more", func(i int) bool { return i == 6 })
}
