package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// switchOver is how long a slave may take to follow another master after the death
// of its own, with a poll interval of half a second.
const switchOver = 3 * time.Second

// newSlaveCluster starts a registry of this many nodes, three masters, and two slaves
// that find them: one polls into RocksDB, one streams into memory.
func newSlaveCluster(t *testing.T, registry int) *cluster {
	t.Helper()
	c := makeLocalCluster(t, 3)
	for range registry {
		c.registry = append(c.registry, c.further("--role", "discovery"))
	}
	if registry > 1 {
		c.cluster(c.registry)
	}
	c.start(c.registry...)
	c.start(c.nodes...)
	c.slaves = append(c.slaves,
		c.further("--role", "slave", "--repl-poll-interval", "500ms"),
		c.further("--role", "slave", "--db-engine", "badger", "--diskless", "--repl-mode", "stream"))
	c.start(c.slaves...)
	return c
}

// further adds a node.
func (c *cluster) further(role ...string) *node {
	c.t.Helper()
	p, err := newPlace(false)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.node(p, c.nodes[0].ip, role...)
}

// cluster makes nodes members of one Raft cluster.
func (c *cluster) cluster(nodes []*node) {
	c.t.Helper()
	var urls []string
	for _, n := range nodes {
		raft, err := n.place.freeAddr(n.ip)
		if err != nil {
			c.t.Fatal(err)
		}
		urls = append(urls, "http://"+raft)
	}
	for i, n := range nodes {
		n.role = append(n.role, "--nexus-node-url", urls[i], "--nexus-cluster-url", strings.Join(urls, ","))
	}
}

// master returns the node that a slave follows; nil for none.
func (c *cluster) master(slave *node) *node {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	row, err := serverpb.NewDKVDiscoveryNodeClient(slave.conn).GetStatus(ctx, &emptypb.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.addr == row.GetMasterHost() })
	if i < 0 {
		return nil
	}
	return c.nodes[i]
}

// TestKillMastersOfSlaves kills the master of one slave after the other under load. Each
// must follow another one, and have all changes in the end, each once.
func TestKillMastersOfSlaves(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newSlaveCluster(t, 1)
	l := startLoad(c, rng)
	watchers := make([]*changeWatcher, len(c.slaves))
	for i, s := range c.slaves {
		watchers[i] = watchChanges(s)
	}
	timed(t, 2, switchOver, "a slave without a master", func(i int) time.Duration {
		slave := c.slaves[i%len(c.slaves)]
		l.await(20 + rng.IntN(200))
		var master *node
		testkit.Eventually(t, "the slave has a master", func() bool { master = c.master(slave); return master != nil })
		leads := c.leader() == master
		killed := time.Now()
		master.kill()
		var next *node
		testkit.Eventually(t, "the slave follows another master", func() bool { next = c.master(slave); return next != nil && next != master })
		took := time.Since(killed)
		t.Logf("node %d, which the slave %d followed (leading: %v), killed: it follows node %d after %v",
			master.number, slave.number, leads, next.number, took.Round(time.Millisecond))
		l.await(20)
		c.start(master)
		return took
	})
	l.verdict()
	for i, s := range c.slaves {
		c.compareChanges(s, watchers[i].end())
	}
}

// TestKillRegistryLeader kills the leader of the registry: the others, and that one when
// it is back, still list every node that is alive.
func TestKillRegistryLeader(t *testing.T) {
	t.Parallel()
	c := newSlaveCluster(t, 3)
	members := slices.Concat(c.nodes, c.slaves)
	missing := func(n *node) (out []string, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		resp, err := serverpb.NewDKVDiscoveryClient(n.conn).GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{})
		for _, m := range members {
			if !slices.ContainsFunc(resp.GetRegionInfos(), func(r *serverpb.RegionInfo) bool { return r.GetNodeAddress() == m.addr }) {
				out = append(out, m.addr)
			}
		}
		return out, err
	}
	for _, r := range c.registry {
		testkit.Eventually(t, "all nodes are registered", func() bool {
			out, err := missing(r)
			return err == nil && len(out) == 0
		})
	}
	for range rounds(1) {
		leader := leaderOf(c.registry)
		leader.kill()
		answers, refusals := 0, 0
		until := time.Now().Add(4 * time.Second)
		patience := until.Add(testkit.Patience)
		for restarted := false; time.Now().Before(until) || answers == 0 && time.Now().Before(patience); {
			for _, r := range c.registry {
				if r.Process == nil {
					continue
				}
				switch out, err := missing(r); {
				case err != nil:
					refusals++
				case len(out) > 0:
					t.Errorf("node %d of the registry does not know %v any more", r.number, out)
				default:
					answers++
				}
			}
			if !restarted && time.Until(until) < 2*time.Second {
				restarted = true
				c.start(leader)
			}
		}
		t.Logf("node %d, the registry's leader, killed and restarted: %d complete answers of the registry, %d refusals", leader.number, answers, refusals)
		if answers == 0 {
			t.Error("the registry has answered nothing")
		}
	}
}

// changes returns what a node's change log holds from a number on.
func changes(n *node, from uint64) []*serverpb.ChangeRecord {
	n.c.t.Helper()
	var out []*serverpb.ChangeRecord
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		resp, err := serverpb.NewDKVReplicationClient(n.conn).GetChanges(ctx,
			&serverpb.GetChangesRequest{FromChangeNumber: from}, grpc.WaitForReady(true))
		cancel()
		n.must(err)
		if len(resp.GetChanges()) == 0 {
			return out
		}
		out = append(out, resp.GetChanges()...)
		from = out[len(out)-1].GetChangeNumber() + 1
	}
}

// compareChanges compares a slave's change log, and the changes that a watcher of the
// slave has received, with the changes of a master.
func (c *cluster) compareChanges(slave *node, seen []*serverpb.ChangeRecord) {
	c.t.Helper()
	from := slave.standing().GetFirstChangeNumber()
	equal := func(a, b *serverpb.ChangeRecord) bool { return proto.Equal(a, b) }
	want := changes(c.nodes[0], from)
	last := want[len(want)-1].GetChangeNumber()
	// Keys go on to expire: the slave may be behind by that, and ahead when it is asked.
	testkit.Eventually(c.t, "the slave has its master's last change", func() bool { return slave.standing().GetAppliedIndex() >= last })
	until := func(all []*serverpb.ChangeRecord) []*serverpb.ChangeRecord {
		return slices.DeleteFunc(all, func(r *serverpb.ChangeRecord) bool { return r.GetChangeNumber() > last })
	}
	if got := until(changes(slave, from)); !slices.EqualFunc(got, want, equal) {
		c.t.Errorf("slave %d has %d changes from %d on, its masters %d, and they are not the same: %s",
			slave.number, len(got), from, len(want), firstDifference(got, want))
	}
	if len(seen) == 0 {
		c.t.Errorf("nothing was seen of slave %d's changes", slave.number)
		return
	}
	// The watcher has seen all that there was when it ended, which is before this.
	last = seen[len(seen)-1].GetChangeNumber()
	if want = until(changes(c.nodes[0], seen[0].GetChangeNumber())); !slices.EqualFunc(seen, want, equal) {
		c.t.Errorf("who watched slave %d has seen %d changes, and there are %d: %s", slave.number, len(seen), len(want), firstDifference(seen, want))
	}
	c.t.Logf("slave %d: %d changes in its log and %d seen by a watcher, each once and in order", slave.number, len(want), len(seen))
}

func firstDifference(got, want []*serverpb.ChangeRecord) string {
	for i := range min(len(got), len(want)) {
		if !proto.Equal(got[i], want[i]) {
			return fmt.Sprintf("number %d is where %d is expected", got[i].GetChangeNumber(), want[i].GetChangeNumber())
		}
	}
	return "one is the beginning of the other"
}

// changeWatcher is a client that watches a node's changes.
type changeWatcher struct {
	node    *node
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	seen    []*serverpb.ChangeRecord
}

// watchChanges watches from the next change on.
func watchChanges(n *node) *changeWatcher {
	n.c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n.c.t.Cleanup(stop)
	w := &changeWatcher{node: n, stop: stop}
	stream, err := serverpb.NewDKVReplicationClient(n.conn).WatchChanges(ctx, &serverpb.WatchChangesRequest{}, grpc.WaitForReady(true))
	n.must(err)
	w.running.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return // what is missing then shows in the comparison
			}
			w.mu.Lock()
			w.seen = append(w.seen, m.GetChanges()...)
			w.mu.Unlock()
		}
	})
	return w
}

// end waits until the watcher has all of the node's changes, and returns them.
func (w *changeWatcher) end() []*serverpb.ChangeRecord {
	w.node.c.t.Helper()
	all := changes(w.node, w.node.standing().GetFirstChangeNumber())
	last := all[len(all)-1].GetChangeNumber()
	testkit.Eventually(w.node.c.t, "the watcher has seen the last change", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.seen) > 0 && w.seen[len(w.seen)-1].GetChangeNumber() >= last
	})
	w.stop()
	w.running.Wait()
	return w.seen
}
