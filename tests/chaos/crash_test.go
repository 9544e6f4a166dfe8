package chaos

import (
	"testing"
	"time"
)

// Writes must resume within this time after the leader's death, on a LAN, if no split vote
// takes another election.
const failover = 3 * time.Second

// TestKillLeader kills the leader at random moments and restarts it.
func TestKillLeader(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	timed(t, 3, failover, "no write after the leader's death", func(int) time.Duration {
		l.await(20 + rng.IntN(300))
		leader := c.leader()
		from, began := l.mark(), clock()
		leader.kill()
		l.await(20)
		gap := l.longestGap(from)
		t.Logf("node %d killed at %s: no write for %v", leader.number, began, gap.Round(time.Millisecond))
		c.start(leader)
		return gap
	})
	l.verdict()
}

// TestKillFollower kills a follower and restarts it; only its own clients may notice.
func TestKillFollower(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	for range rounds(1) {
		l.await(20 + rng.IntN(200))
		followers := c.others(c.leader())
		follower := followers[rng.IntN(len(followers))]
		from := l.mark()
		follower.kill()
		l.await(100)
		c.start(follower)
		l.await(50)
		t.Logf("node %d, a follower, killed and restarted: longest gap between writes %v", follower.number, l.longestGap(from).Round(time.Millisecond))
	}
	l.verdict()
}

// TestKillAll kills all nodes at once and restarts them.
func TestKillAll(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	for range rounds(1) {
		l.await(50 + rng.IntN(300))
		from := l.mark()
		for _, n := range c.nodes {
			n.kill()
		}
		killed := time.Now()
		c.start(c.nodes...)
		up := time.Since(killed)
		l.await(20)
		t.Logf("all killed: serving after %v, no write for %v", up.Round(time.Millisecond), l.longestGap(from).Round(time.Millisecond))
	}
	l.verdict()
}

// TestPauseLeader pauses the leader: longer than its lease, about as long as an election,
// and longer than that. It resumes with an old lease and with reads in progress.
func TestPauseLeader(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	for range rounds(1) {
		for _, d := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second} {
			l.await(20 + rng.IntN(200))
			leader := c.leader()
			from, began := l.mark(), clock()
			leader.pause()
			lasting(d)
			leader.resume()
			l.await(100)
			t.Logf("node %d paused at %s for %v: no write for %v", leader.number, began, d, l.longestGap(from).Round(time.Millisecond))
		}
	}
	l.verdict()
}
