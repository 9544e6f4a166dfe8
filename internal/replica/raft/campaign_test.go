package raft

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// TestEndOfTheLeadersProcessIsNoticed: nothing listens at the leader's port any more, so the
// others do not wait for an election's time.
func TestEndOfTheLeadersProcessIsNoticed(t *testing.T) {
	slow := timing.Timing{RTT: 10 * time.Millisecond, Election: 6000, Heartbeat: 2, Lease: 80 * time.Millisecond}
	c := newCluster(t, 3, func(c *cluster) { c.timing = map[uint64]timing.Timing{1: slow, 2: slow, 3: slow} })
	first := c.nodes[0]
	testkit.Eventually(t, "the first leader is elected", func() bool {
		first.host.Campaign(first.raft.Shard, first.id, 2, first.Term())
		return first.Status().IsLeader
	})
	c.put("k", "v")
	for _, n := range c.nodes {
		testkit.Eventually(t, "all members are known", func() bool { return len(n.Members()) == 3 })
	}
	begin := time.Now()
	first.kill()
	c.put("k", "w")
	if took := time.Since(begin); took >= time.Minute {
		t.Errorf("the next write took %v, as long as an election without a cause", took)
	}
}

// TestTurnsAfterALeader: each member has a turn of its own, whoever has led.
func TestTurnsAfterALeader(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	for leader := range uint64(3) {
		turns := make(map[int]bool)
		for _, n := range c.nodes {
			testkit.Eventually(t, "all members are known", func() bool { return len(n.Members()) == 3 })
			if n.id != leader+1 {
				turns[n.turnAfter(leader+1)] = true
			}
		}
		if !turns[0] || !turns[1] || len(turns) != 2 {
			t.Errorf("after %d: %v", leader+1, turns)
		}
	}
}
