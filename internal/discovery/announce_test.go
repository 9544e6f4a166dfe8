package discovery

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/discovery/announce"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestAnnouncedNodes has nodes announce themselves to a real registry and follow it,
// while its owner dies: what they see of each other stays true throughout.
func TestAnnouncedNodes(t *testing.T) {
	l, sites := newSites(t)
	addrs := []string{sites[0].addr, sites[1].addr, sites[2].addr}
	pool := peer.NewPool(peer.Options{MaxMessageSize: 16 << 20})
	t.Cleanup(func() { pool.Close() })

	var leads atomic.Int64 // which node, by its number
	stops := make([]func(), 3)
	announcers := make([]*announce.Announcer, 3)
	for i := range stops {
		announcers[i] = announce.NewAnnouncer(announce.Options{
			Addresses: addrs, Pool: pool, Interval: 20 * time.Millisecond,
			Rows: func() []*serverpb.RegionInfo {
				status, n := secondary, leads.Load()
				if n == int64(i) {
					status = leader
				}
				return []*serverpb.RegionInfo{region(fmt.Sprintf("db/0/n%d:1/dc1", i), status, term(uint64(1+n)))}
			},
		})
		stops[i] = testkit.Run(t, announcers[i].Run)
	}
	d := announce.OpenDirectory(announce.DirectoryOptions{Addresses: addrs, Pool: pool})
	testkit.Run(t, d.Run)
	// until waits for nodes, the first of which leads. Which follower is the primary
	// one depends on who came first.
	until := func(want ...string) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint(want), func() bool {
			var led, others []string
			primaries := 0
			for _, r := range d.Rows() {
				switch r.GetStatus() {
				case leader:
					led = append(led, r.GetNodeAddress())
					continue
				case primary:
					primaries++
				}
				others = append(others, r.GetNodeAddress())
			}
			return d.Live() && primaries == 1 && slices.Equal(append(led, others...), want)
		})
	}
	until("n0:1", "n1:1", "n2:1")

	sites[0].stop()
	l.elect(0)
	l.elect(3)
	leads.Store(2)
	for _, a := range announcers {
		a.Poke()
	}
	until("n2:1", "n0:1", "n1:1")
	stops[1]() // says goodbye
	until("n2:1", "n0:1")
}
