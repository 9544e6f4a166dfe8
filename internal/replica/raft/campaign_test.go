package raft

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// TestEndOfTheLeadersProcessIsNoticed: nothing listens at the leader's port any more, so the
// others do not wait for an election's time. On a busy machine the votes may be split, so
// there are several attempts.
func TestEndOfTheLeadersProcessIsNoticed(t *testing.T) {
	slow := timing.Timing{RTT: 20 * time.Millisecond, Election: 200, Heartbeat: 2, Lease: 80 * time.Millisecond}
	c := newCluster(t, 3, func(c *cluster) { c.timing = map[uint64]timing.Timing{1: slow, 2: slow, 3: slow} })
	const attempts = 6
	took := make([]time.Duration, 0, attempts)
	for range attempts {
		c.put("k", "v")
		for _, n := range c.nodes {
			testkit.Eventually(t, "all members are known", func() bool { return len(n.Members()) == 3 })
		}
		owner := c.owner()
		begin := time.Now()
		owner.kill()
		c.put("k", "w")
		took = append(took, time.Since(begin))
		if took[len(took)-1] < time.Duration(slow.Election)*slow.RTT {
			return
		}
		owner.start()
	}
	t.Errorf("the next write took %v, as long as elections without a cause", took)
}

// TestTurnsAfterALeader: each member has a turn of its own, whichever has led.
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
