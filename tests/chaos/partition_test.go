package chaos

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestPartitionLeader cuts the leader off from the followers, while clients still reach
// all of them: on the Raft ports only, completely, and in one direction.
func TestPartitionLeader(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newNetworkedCluster(t, 3)
	l := startLoad(c, rng)
	for range rounds(1) {
		for _, cut := range []struct {
			name  string
			rules func(*node) []string
		}{
			{"Raft ports", raftRules},
			{"all traffic", allRules},
		} {
			l.await(20 + rng.IntN(200))
			leader := c.leader()
			t.Logf("%s of node %d cut at %s", cut.name, leader.number, clock())
			from := l.mark()
			w := watch(c, leader)
			began := time.Now()
			leader.cut(cut.rules(leader))
			done := time.Now()
			l.await(20) // on the other side
			lasting(time.Second)
			w.end()
			t.Logf("no write for %v", l.longestGap(from).Round(time.Millisecond))
			leader.heal()
			leader.rejoin()
			w.judge(began, done)
		}
	}
	l.verdict()
}

// TestPartitionOneWay lets the followers receive from the leader but not the leader from
// them, and the other way round.
func TestPartitionOneWay(t *testing.T) {
	t.Parallel()
	rng := newRand(t)
	c := newNetworkedCluster(t, 3)
	l := startLoad(c, rng)
	for range rounds(1) {
		for _, way := range []struct {
			name string
			deaf bool
		}{{"deaf", true}, {"dumb", false}} {
			l.await(20 + rng.IntN(200))
			leader := c.leader()
			from, began := l.mark(), clock()
			leader.cut(oneWayRules(leader, way.deaf))
			l.await(20)
			t.Logf("node %d %s at %s: no write for %v", leader.number, way.name, began, l.longestGap(from).Round(time.Millisecond))
			leader.heal()
			leader.rejoin()
		}
	}
	l.verdict()
}

// The rules of a cut are arguments of iptables in the network of the node.

func allRules(n *node) (rules []string) {
	for _, o := range n.c.others(n) {
		rules = append(rules, "INPUT -s "+o.ip, "OUTPUT -d "+o.ip)
	}
	return rules
}

func oneWayRules(n *node, deaf bool) (rules []string) {
	for _, o := range n.c.others(n) {
		if deaf {
			rules = append(rules, "INPUT -s "+o.ip)
		} else {
			rules = append(rules, "OUTPUT -d "+o.ip)
		}
	}
	return rules
}

// raftRules match connections to Raft ports, whichever end opened them.
func raftRules(n *node) (rules []string) {
	for _, o := range n.c.others(n) {
		rules = append(rules,
			fmt.Sprintf("INPUT -s %s -p tcp --dport %s", o.ip, n.raftPort()),
			fmt.Sprintf("INPUT -s %s -p tcp --sport %s", o.ip, o.raftPort()),
			fmt.Sprintf("OUTPUT -d %s -p tcp --dport %s", o.ip, o.raftPort()),
			fmt.Sprintf("OUTPUT -d %s -p tcp --sport %s", o.ip, n.raftPort()))
	}
	return rules
}

func (n *node) raftPort() string {
	u, err := url.Parse(n.url)
	n.must(err)
	_, port, err := net.SplitHostPort(u.Host)
	n.must(err)
	return port
}

func (n *node) cut(rules []string) {
	n.c.t.Helper()
	for _, r := range rules {
		n.must(n.place.run("iptables -w -A " + r + " -j DROP"))
	}
}

func (n *node) heal() {
	n.c.t.Helper()
	n.must(n.place.run("iptables -w -F"))
}

// rejoin waits until a node that is no longer cut off receives new writes: otherwise the
// next fault would affect two nodes at once. TCP decides how long that takes.
func (n *node) rejoin() {
	n.c.t.Helper()
	healed := time.Now()
	n.awaitIndex(n.c.others(n)[0].put("rejoin", clock(), 0))
	n.c.t.Logf("node %d follows again %v after the cut was healed", n.number, time.Since(healed).Round(time.Millisecond))
}

// watched is the result of a request to the node.
type watched struct {
	call time.Time
	err  error
}

// watcher sends requests to one node only, at short intervals.
type watcher struct {
	t      *testing.T
	node   *node
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu                        sync.Mutex
	newest, sequential, write []watched
}

const (
	watchPace = 5 * time.Millisecond
	// watchDeadline is that of requests which the node cannot answer while it is cut off.
	watchDeadline = time.Second
)

func watch(c *cluster, n *node) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{t: c.t, node: n, cancel: cancel}
	c.t.Cleanup(w.end)
	key := []byte("watched")
	newest := func(ctx context.Context) error {
		_, err := n.kv().Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
		return err
	}
	reached := uint64(0)
	sequential := func(ctx context.Context) error {
		resp, err := n.kv().Get(ctx, &serverpb.GetRequest{Key: key})
		if err == nil && resp.GetIndex() < reached {
			return fmt.Errorf("it went back from index %d to %d", reached, resp.GetIndex())
		}
		reached = max(reached, resp.GetIndex())
		return err
	}
	// Two linearizable readers, since one of them may be blocked by a read that waits.
	w.repeat(ctx, &w.newest, watchDeadline, newest)
	w.repeat(ctx, &w.newest, watchDeadline, newest)
	w.repeat(ctx, &w.sequential, testkit.Patience, sequential)
	w.repeat(ctx, &w.write, watchDeadline, func(ctx context.Context) error {
		_, err := n.kv().Put(ctx, &serverpb.PutRequest{Key: key, Value: []byte("v")})
		return err
	})
	return w
}

func (w *watcher) repeat(ctx context.Context, to *[]watched, deadline time.Duration, request func(context.Context) error) {
	w.all.Go(func() {
		tick := time.NewTicker(watchPace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			op, cancel := context.WithTimeout(context.Background(), deadline)
			call := time.Now()
			err := request(op)
			cancel()
			w.mu.Lock()
			*to = append(*to, watched{call, err})
			w.mu.Unlock()
		}
	})
}

func (w *watcher) end() {
	w.cancel()
	w.all.Wait()
}

// judge checks what the node did between the complete cut and its healing, when the watch
// has ended.
func (w *watcher) judge(began, done time.Time) {
	w.t.Helper()
	last, reads, refused := began, 0, 0
	for _, r := range w.newest {
		if r.err == nil && r.call.After(began) {
			last = r.call
			reads++
		} else if r.err != nil {
			refused++
			w.mustBeUnavailable("linearizable read", r)
		}
	}
	w.t.Logf("linearizable reads on it: %d went on for %v after the cut, which took %v to make; %d refused",
		reads, last.Sub(done).Round(time.Millisecond), done.Sub(began).Round(time.Millisecond), refused)
	if last.After(done.Add(lease)) {
		w.t.Errorf("a linearizable read was answered that began %v after the cut, with a lease of %v", last.Sub(done), lease)
	}
	if refused == 0 {
		w.t.Error("no linearizable read was refused")
	}
	reads = 0
	for _, r := range w.sequential {
		if r.err != nil {
			w.t.Errorf("a sequential read %v after the cut: %v", r.call.Sub(done), r.err)
		} else if r.call.After(done) {
			reads++
		}
	}
	failed := 0
	for _, r := range w.write {
		switch {
		case r.err != nil:
			failed++
			w.mustBeUnavailable("write", r)
		case r.call.After(done):
			w.t.Errorf("a write was acknowledged that began %v after the cut", r.call.Sub(done))
		}
	}
	w.t.Logf("sequential reads on it after the cut: %d; writes that failed: %d", reads, failed)
	if reads == 0 || failed == 0 {
		w.t.Error("there must be some of both")
	}
}

// mustBeUnavailable checks that a request on the minority's side was rejected properly.
func (w *watcher) mustBeUnavailable(what string, r watched) {
	w.t.Helper()
	if code := status.Code(r.err); code != codes.Unavailable && code != codes.DeadlineExceeded {
		w.t.Errorf("%s: %v", what, r.err)
	}
}
