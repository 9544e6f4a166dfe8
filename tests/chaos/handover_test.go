package chaos

import (
	"testing"
	"time"
)

// Writes resume within 200 ms of a planned change, on a LAN; the tests log how long it
// took. A shared machine may stall for longer than that, so they only fail if there was an
// election instead of a transfer in every round, which takes more than this.
const handOver = time.Second

// TestTransferLeader transfers leadership under load, by a request to any node.
func TestTransferLeader(t *testing.T) {
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	timed(t, 5, handOver, "no write around a transfer", func(int) time.Duration {
		l.await(20 + rng.IntN(100))
		others := c.others(c.leader())
		to := others[rng.IntN(len(others))]
		from, began := l.mark(), clock()
		c.nodes[rng.IntN(len(c.nodes))].transfer(to)
		l.await(50)
		gap := l.longestGap(from)
		t.Logf("transfer to node %d at %s: no write for %v", to.number, began, gap.Round(time.Millisecond))
		return gap
	})
	l.verdict()
}

// TestStopLeader stops the leader as an operator does: it transfers leadership first.
func TestStopLeader(t *testing.T) {
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	timed(t, 3, handOver, "no write around the leader's stop", func(int) time.Duration {
		l.await(20 + rng.IntN(100))
		leader := c.leader()
		from, began := l.mark(), clock()
		leader.stop()
		l.await(50)
		gap := l.longestGap(from)
		t.Logf("node %d stopped at %s: no write for %v", leader.number, began, gap.Round(time.Millisecond))
		c.start(leader)
		leader.rejoin() // as one waits before the next node is stopped
		return gap
	})
	l.verdict()
}
