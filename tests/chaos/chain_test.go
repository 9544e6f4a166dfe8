package chaos

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// source returns the node of any role that a slave follows; nil for none.
func (c *cluster) source(slave *node) *node {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	row, err := serverpb.NewDKVDiscoveryNodeClient(slave.conn).GetStatus(ctx, &emptypb.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return nil
	}
	all := c.all()
	i := slices.IndexFunc(all, func(n *node) bool { return n.addr == row.GetMasterHost() })
	if i < 0 {
		return nil
	}
	return all[i]
}

// newChain starts a master and three slaves, each of which follows the one before it.
func newChain(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, 1)
	before := []string{c.nodes[0].addr}
	for range 3 {
		s := c.further("--role", "slave", "--repl-mode", "stream", "--repl-master-addr", strings.Join(before, ","))
		c.slaves = append(c.slaves, s)
		c.start(s)
		before = append([]string{s.addr}, before...)
	}
	return c
}

// TestKillMiddleOfChain kills the second of three slaves in a chain under load. The last one
// must follow another node, and have all changes in the end, each once.
func TestKillMiddleOfChain(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newChain(t)
	first, middle, last := c.slaves[0], c.slaves[1], c.slaves[2]
	l := startLoad(c, rng)
	watcher := watchChanges(last)
	for range rounds(1) {
		testkit.Eventually(t, "the slaves are a chain", func() bool {
			return c.source(first) == c.nodes[0] && c.source(middle) == first && c.source(last) == middle
		})
		l.await(50 + rng.IntN(200))
		killed := time.Now()
		middle.kill()
		var next *node
		testkit.Eventually(t, "the last slave follows another node", func() bool {
			next = c.source(last)
			return next != nil && next != middle
		})
		followed := time.Since(killed)
		last.awaitIndex(c.nodes[0].put("after the middle", clock(), 0))
		t.Logf("the middle killed: the last slave follows node %d after %v, and had a newer change after %v",
			next.number, followed.Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
		l.await(20)
		c.start(middle)
	}
	l.verdict()
	for _, s := range c.slaves {
		s.awaitIndex(c.nodes[0].standing().GetAppliedIndex())
	}
	c.compareChanges(last, watcher.end())
}
