package chaos

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Writes resume within 200 ms of a planned change, on a LAN; the test logs how long it
// took. A shared machine may stall for longer than that, so the test only fails if there
// was an election instead of a transfer, which takes more than this.
const handOver = time.Second

// TestTransferLeader transfers leadership under load, by a request to any node.
func TestTransferLeader(t *testing.T) {
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	var gaps []time.Duration
	for range rounds(5) {
		l.await(20 + rng.IntN(100))
		others := c.others(c.leader())
		to := others[rng.IntN(len(others))]
		from, began := l.mark(), clock()
		c.nodes[rng.IntN(len(c.nodes))].transfer(to)
		l.await(50)
		gap := l.longestGap(from)
		gaps = append(gaps, gap)
		t.Logf("transfer to node %d at %s: no write for %v", to.number, began, gap.Round(time.Millisecond))
	}
	l.verdict()
	if m := median(gaps); m > handOver {
		t.Errorf("no write for %v around a transfer, in the median", m)
	}
}

// transfer asks a node to transfer the leadership to another one.
func (n *node) transfer(to *node) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := n.admin().TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: to.url}, grpc.WaitForReady(true))
	n.must(err)
}

// TestStopLeader stops the leader as an operator does: it transfers leadership first.
func TestStopLeader(t *testing.T) {
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	var gaps []time.Duration
	for range rounds(3) {
		l.await(20 + rng.IntN(100))
		leader := c.leader()
		from, began := l.mark(), clock()
		leader.stop()
		l.await(50)
		gap := l.longestGap(from)
		gaps = append(gaps, gap)
		t.Logf("node %d stopped at %s: no write for %v", leader.number, began, gap.Round(time.Millisecond))
		c.start(leader)
		leader.rejoin() // as one waits before the next node is stopped
	}
	l.verdict()
	if m := median(gaps); m > handOver {
		t.Errorf("no write for %v around the leader's stop, in the median", m)
	}
}
