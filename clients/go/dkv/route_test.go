package dkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// sent is how often each node has got a method since the last call.
func (c *cluster) sent(method string) []int {
	out := make([]int, len(c.nodes))
	for i, n := range c.nodes {
		n.mu.Lock()
		out[i], n.calls[method] = n.calls[method], 0
		n.mu.Unlock()
	}
	return out
}

// Writes and linearizable reads go straight to the leader of the key's vBucket.
func TestRouteToLeaders(t *testing.T) {
	cl := newCluster(t, 3, 6)
	c := ready(t, cl.nodes[2].addr) // the others are found
	ctx := testkit.Within(t, enough)
	for i := range 60 {
		key := []byte(fmt.Sprint(i))
		must[uint64](t)(c.Put(ctx, key, key))
		must[Value](t)(c.Get(ctx, key))
	}
	for _, method := range []string{putMethod, getMethod} {
		all := 0
		for _, n := range cl.sent(method) {
			all += n
		}
		if all != 60 {
			t.Errorf("%s: %d requests for 60 calls", method, all)
		}
	}
}

// Sequential reads stay in the data centre for as long as a replica lives there.
func TestRouteToOwnDC(t *testing.T) {
	cl := newCluster(t, 3, 1)
	cl.nodes[0].dc, cl.nodes[1].dc, cl.nodes[2].dc = "far", "here", "here"
	slave := startNode(t, cl, "")
	slave.slave = true
	host, port, _ := net.SplitHostPort(slave.addr)
	number, _ := strconv.Atoi(port)
	cl.mu.Lock()
	cl.replicas = []*serverpb.Replica{{Zone: "here", Hostname: host, Port: uint32(number)}}
	cl.mu.Unlock()
	c := ready(t, cl.nodes[0].addr, WithDC("here"))
	cl.mu.Lock()
	cl.nodes = append(cl.nodes, slave)
	cl.mu.Unlock()
	testkit.Eventually(t, "the replicas there are known", func() bool {
		c.learner.probeSoon()
		return c.topology.Load().vBuckets[0].near == 3
	})
	read := func() []int {
		cl.sent(getMethod)
		for range 100 {
			if _, err := c.Get(testkit.Within(t, enough), []byte("k"), Sequential); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
		return cl.sent(getMethod)
	}
	if got := read(); got[0] != 0 || got[1]+got[2]+got[3] != 100 {
		t.Errorf("requests to the far node and to the three near ones: %v", got)
	}
	cl.nodes[1].stop()
	cl.nodes[2].stop()
	slave.stop()
	if got := read(); got[0] != 100 {
		t.Errorf("requests to the only node that lives: %v", got)
	}
	// A slave does not write.
	if _, err := c.Put(testkit.Within(t, enough), []byte("k"), nil); err != nil {
		t.Error(err)
	}
}

// With only slaves, sequential reads continue and writes wait.
func TestOnlySlaves(t *testing.T) {
	cl := newCluster(t, 1, 1)
	cl.nodes[0].slave = true
	cl.lead(nil)
	c := open(t, cl.addrs())
	if _, err := c.Get(testkit.Within(t, enough), []byte("k"), Sequential); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	_, err := c.Put(testkit.Within(t, 100*time.Millisecond), []byte("k"), nil)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		t.Error(err)
	}
	if err := c.WaitReady(testkit.Within(t, 50*time.Millisecond)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A slave that the client was opened with names the leader.
func TestLeaderThroughSlave(t *testing.T) {
	cl := newCluster(t, 2, 1)
	cl.nodes[1].slave = true
	c := ready(t, cl.nodes[1].addr)
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	if got := cl.sent(putMethod); got[0] != 1 || got[1] != 0 {
		t.Errorf("puts: %v", got)
	}
}

// A read that a replica rejects as too old is answered by the leader.
// A read that finds a replica busy and then another one too old is answered by the leader.
func TestTooOldAfterAnotherFailure(t *testing.T) {
	cl := newCluster(t, 3, 1)
	cl.nodes[0].dc, cl.nodes[1].dc, cl.nodes[2].dc = "far", "here", "here"
	c := ready(t, cl.addrs(), WithDC("here"))
	testkit.Eventually(t, "the near nodes are known", func() bool {
		c.learner.probeSoon()
		return c.topology.Load().vBuckets[0].near == 2
	})
	var asked atomic.Int64
	for _, n := range cl.nodes[1:] {
		n.fail(func(_ context.Context, method string) error {
			switch {
			case method != getMethod:
				return nil
			case asked.Add(1) == 1:
				return explained(codes.Unavailable, kv.ReasonNotApplied, "busy")
			default:
				return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the state is too old")
			}
		}, nil)
	}
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	must[Value](t)(c.Get(ctx, []byte("k"), Sequential, MaxAge(time.Second)))
	if n := asked.Load(); n != 2 {
		t.Errorf("the near nodes were asked %d times", n)
	}
}

func TestTooOld(t *testing.T) {
	cl := newCluster(t, 2, 1)
	cl.nodes[0].dc, cl.nodes[1].dc = "far", "here"
	c := ready(t, cl.addrs(), WithDC("here"))
	testkit.Eventually(t, "the near node is known", func() bool {
		c.learner.probeSoon()
		return c.topology.Load().vBuckets[0].near == 1
	})
	old := func(_ context.Context, method string) error {
		if method == getMethod {
			return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the state is too old")
		}
		return nil
	}
	cl.nodes[1].fail(old, nil)
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	must[Value](t)(c.Get(ctx, []byte("k"), Sequential, MaxAge(time.Second)))
	cl.nodes[0].fail(old, nil)
	cl.sent(getMethod)
	if _, err := c.Get(ctx, []byte("k"), Sequential, MaxAge(time.Second)); !errors.Is(err, ErrPrecondition) {
		t.Error(err)
	}
	if got := cl.sent(getMethod); got[0] != 1 || got[1] != 1 {
		t.Errorf("reads: %v", got)
	}
}

// At fixed addresses each node is asked once whether its state is new enough: which of them leads is not known.
func TestTooOldAtFixedAddresses(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses())
	for _, n := range cl.nodes {
		n.fail(func(_ context.Context, method string) error {
			if method == getMethod {
				return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "the state is too old")
			}
			return nil
		}, nil)
	}
	cl.sent(getMethod)
	if _, err := c.Get(testkit.Within(t, enough), []byte("k"), Sequential, MaxAge(time.Second)); !errors.Is(err, ErrPrecondition) {
		t.Error(err)
	}
	if got := cl.sent(getMethod); got[0] != 1 || got[1] != 1 || got[2] != 1 {
		t.Errorf("reads: %v", got)
	}
}

// A node at a fixed address that is passed over has its turn only when none of the others can be reached.
func TestTurnsPassOverWhatHangs(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses())
	masters := c.topology.Load().masters
	masters[0].down.Store(now() + int64(time.Hour))
	var tried turns
	for range 4 {
		if tried.next(c.topology.Load(), masters[1]) != masters[2] || tried.next(c.topology.Load(), masters[2]) != masters[1] {
			t.Fatal("the node that hangs has a turn before those that answer")
		}
	}
	masters[2].down.Store(now() + int64(time.Hour))
	if n := tried.next(c.topology.Load(), masters[1]); n == masters[1] {
		t.Error("the others have no turn any more")
	}
}

func TestDatabase(t *testing.T) {
	cl := newCluster(t, 1, 1)
	ready(t, cl.addrs(), WithDatabase("db"))
	c := open(t, cl.addrs(), WithDatabase("other"))
	if err := c.WaitReady(testkit.Within(t, enough)); !errors.Is(err, ErrPrecondition) {
		t.Error(err)
	}
}

// A proxy is not asked which node leads.
func TestFixedAddresses(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses())
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("k"), nil))
	cl.lead(cl.nodes[1])
	must[uint64](t)(c.Put(ctx, []byte("k"), nil)) // the other one is tried
	if n := cl.nodes[0].count(serverpb.DKVNode_GetNodeStatus_FullMethodName); n != 0 {
		t.Errorf("was asked %d times", n)
	}
	unreached := open(t, testkit.Address(t), WithFixedAddresses())
	if err := unreached.WaitReady(testkit.Within(t, 50*time.Millisecond)); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

// A server without a status is taken to serve everything.
func TestServerOfTheOriginalKind(t *testing.T) {
	cl := newCluster(t, 1, 1)
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == serverpb.DKVNode_GetNodeStatus_FullMethodName {
			return explained(codes.Unimplemented, kv.ReasonNotApplied, "unknown method")
		}
		return nil
	}, nil)
	c := ready(t, cl.addrs())
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), []byte("v")))
}

// Such a server applies what is repeated again: a compare-and-set whose answer was lost would
// then say that it had no effect.
func TestServerOfTheOriginalKindIsSentNothingTwice(t *testing.T) {
	cl := newCluster(t, 1, 1)
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == serverpb.DKVNode_GetNodeStatus_FullMethodName {
			return status.Error(codes.Unimplemented, "unknown service")
		}
		return nil
	}, func(_ context.Context, method string) error {
		if method == serverpb.DKV_CompareAndSet_FullMethodName {
			return status.Error(codes.Unavailable, "the connection broke")
		}
		return nil
	})
	c := ready(t, cl.addrs())
	_, _, err := c.CompareAndSet(testkit.Within(t, enough), []byte("k"), nil, []byte("v"))
	if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if n := cl.nodes[0].count(serverpb.DKV_CompareAndSet_FullMethodName); n != 1 {
		t.Errorf("it was sent %d times", n)
	}
}

// Members that have left are dropped.
func TestMemberGone(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.nodes[0].addr)
	allReplicas(t, c, 3)
	cl.mu.Lock()
	cl.nodes = cl.nodes[:2]
	cl.mu.Unlock()
	c.learner.mu.Lock()
	c.learner.listed = time.Time{}
	c.learner.mu.Unlock()
	allReplicas(t, c, 2)
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
}

// A node that its cluster has removed, and that runs on, is left: its calls go to the members, and
// its list of members is not asked for while there are any.
func TestNodeThatWasRemoved(t *testing.T) {
	cl := newCluster(t, 3, 4)
	cl.nodes[0].dc, cl.nodes[1].dc, cl.nodes[2].dc = "here", "far", "far"
	cl.lead(cl.nodes[0])
	c := ready(t, cl.addrs(), WithDC("here"))
	allReplicas(t, c, 3)
	ctx := testkit.Within(t, enough)
	must[uint64](t)(c.Put(ctx, []byte("k"), []byte("v")))
	iterate := func() {
		t.Helper()
		pairs := 0
		for _, err := range c.Iterate(ctx, Range{}) {
			if pairs++; err != nil {
				t.Fatal(err)
			}
		}
		if pairs != 1 {
			t.Fatalf("%d pairs", pairs)
		}
	}
	iterate()
	cl.remove(cl.nodes[0], cl.nodes[1])
	must[uint64](t)(c.Put(ctx, []byte("k"), []byte("v")))
	must[Value](t)(c.Get(ctx, []byte("k")))
	must[Value](t)(c.Get(ctx, []byte("k"), Sequential))
	iterate()
	testkit.Eventually(t, "no call goes to the node", func() bool {
		top := c.topology.Load()
		return len(top.masters) == 2 && top.vBuckets[0].leader.addr == cl.nodes[1].addr
	})
	method := serverpb.DKVCluster_ListNodes_FullMethodName
	cl.sent(method)
	c.learner.mu.Lock()
	c.learner.listed = time.Time{}
	c.learner.mu.Unlock()
	testkit.Eventually(t, "a member lists the others", func() bool {
		c.learner.probeSoon()
		return cl.nodes[1].count(method)+cl.nodes[2].count(method) > 0
	})
	if n := cl.nodes[0].count(method); n > 0 {
		t.Errorf("the node that was removed was asked for the members %d times", n)
	}

	// If there is no other one, it is asked, and says who was a member.
	lone := ready(t, cl.nodes[0].addr)
	must[uint64](t)(lone.Put(ctx, []byte("k"), []byte("v")))
	fixed := open(t, cl.nodes[0].addr, WithFixedAddresses())
	if _, err := fixed.Put(ctx, []byte("k"), nil); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) || !strings.Contains(err.Error(), "removed") {
		t.Errorf("of the only node: %v", err)
	}
}

// Calls with little time do not all wait for a connection to a leader that is out of reach: the
// masters forward the next ones.
func TestLeaderOutOfReachOfShortCalls(t *testing.T) {
	cl := newCluster(t, 2, 1)
	dark := cl.nodes[0].addr
	c := open(t, cl.nodes[1].addr, WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != cl.nodes[1].addr {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}))
	testkit.Eventually(t, "the leader is named", func() bool {
		t := c.topology.Load()
		return t != nil && t.vBuckets[0].leader.name() == dark
	})
	for _, limit := range []time.Duration{connectTime / 10, connectTime * 9 / 10} {
		if _, err := c.Get(testkit.Within(t, limit), []byte("k")); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	}
	if cl.nodes[1].count(getMethod) == 0 {
		t.Error("no call went to the other master")
	}

	// A caller that leaves says nothing of the node.
	n := must[*node](t)(c.node("dark:1"))
	leaves, leave := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { leave(errors.New("the caller leaves")) })
	if err := n.connect(leaves); err == nil || !n.reachable() {
		t.Errorf("after a caller has left: %v, reachable %v", err, n.reachable())
	}
	if err := n.connect(testkit.Within(t, 10*time.Millisecond)); err == nil || n.reachable() {
		t.Errorf("after a caller's time has ended: %v, reachable %v", err, n.reachable())
	}
}
