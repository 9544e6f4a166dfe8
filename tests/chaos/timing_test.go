package chaos

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// setTiming asks a node to change the cluster's timing.
func (n *node) setTiming(to string) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := serverpb.NewDKVNodeClient(n.conn).SetTiming(ctx, &serverpb.SetTimingRequest{Timing: to}, grpc.WaitForReady(true))
	n.must(err)
}

// awaitTiming waits until a node reports this timing of the cluster, and the one that it
// is being changed to; a zero value means none.
func (n *node) awaitTiming(current, next timing.Timing) {
	n.c.t.Helper()
	testkit.Eventually(n.c.t, "the timing "+current.String()+", next "+next.String(), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := serverpb.NewDKVNodeClient(n.conn).GetNodeStatus(ctx, &emptypb.Empty{})
		return err == nil && s.GetClusterTiming() == current.Text() && s.GetNextTiming() == next.Text()
	})
}

// restartWith stops a node as an operator does, and starts it with further arguments.
func (n *node) restartWith(args ...string) {
	n.c.t.Helper()
	n.stop()
	n.args = args
	n.c.start(n)
	n.rejoin()
}

// refusedWith stops a node and starts it with further arguments, with which it must end
// by itself, with all of the words in its output.
func (n *node) refusedWith(args []string, words ...string) {
	n.c.t.Helper()
	n.stop()
	kept := n.args
	n.args = args
	n.launch()
	if err := n.tryAwait(); err == nil {
		n.c.t.Errorf("node %d serves with %q", n.number, args)
	}
	n.kill()
	raw, err := os.ReadFile(n.logPath())
	n.must(err)
	for _, w := range words {
		if !strings.Contains(string(raw), w) {
			n.c.t.Errorf("node %d, started with %q, does not say %q", n.number, args, w)
		}
	}
	n.args = kept
	n.c.start(n)
	n.rejoin()
}

var wan = []string{"--raft-profile", "wan"}

// TestTimingIsChangedUnderLoad restarts one member with another timing, which must be
// rejected. Then it changes all members from lan to wan, one after the other, and back.
func TestTimingIsChangedUnderLoad(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newCluster(t, 3)
	l := startLoad(c, rng)
	c.nodes[0].awaitTiming(timing.LAN, timing.Timing{})
	c.others(c.leader())[0].refusedWith(wan, "has another timing than the cluster: raft-rtt is 100ms, not 50ms", "dkvctl -setTiming wan")
	for range rounds(1) {
		for _, change := range []struct {
			to       string
			from, is timing.Timing
		}{{"wan", timing.LAN, timing.WAN}, {"lan", timing.WAN, timing.LAN}} {
			c.nodes[rng.IntN(3)].setTiming(change.to)
			began, from := clock(), l.mark()
			leader := c.leader()
			for _, n := range append(c.others(leader), leader) {
				n.awaitTiming(change.from, change.is)
				l.await(20 + rng.IntN(50))
				n.restartWith("--raft-profile", change.to)
			}
			for _, n := range c.nodes {
				n.awaitTiming(change.is, timing.Timing{})
			}
			t.Logf("changed to %s at %s: no write for %v", change.to, began, l.longestGap(from).Round(time.Millisecond))
			l.await(50)
		}
	}
	l.verdict()
}

// TestLeadersWithEitherTimingAreCutOff cuts off the leader while the cluster is between
// two timings: one that holds long leases while the others elect soon, and one with
// short leases among members with long ones.
func TestLeadersWithEitherTimingAreCutOff(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newNetworkedCluster(t, 3)
	l := startLoad(c, rng)
	c.nodes[0].awaitTiming(timing.LAN, timing.Timing{})
	c.nodes[0].setTiming("wan")
	c.nodes[0].awaitTiming(timing.LAN, timing.WAN)
	c.nodes[0].restartWith(wan...)
	for range rounds(1) {
		for _, with := range []struct {
			name  string
			leads *node
		}{{"wan among lan", c.nodes[0]}, {"lan among wan and lan", c.nodes[1]}} {
			l.await(20 + rng.IntN(100))
			if c.leader() != with.leads {
				c.others(with.leads)[0].transfer(with.leads)
			}
			l.await(50) // it reads by lease by then
			before, err := with.leads.readsByPath()
			with.leads.must(err)
			from, began := l.mark(), clock()
			with.leads.cut(raftRules(with.leads))
			l.await(20) // on the other side
			after, err := with.leads.readsByPath()
			with.leads.must(err)
			t.Logf("%s: node %d cut off at %s: no write for %v; reads there %v, then %v", with.name, with.leads.number, began,
				l.longestGap(from).Round(time.Millisecond), before, after)
			with.leads.heal()
			with.leads.rejoin()
		}
	}
	l.verdict()
}
