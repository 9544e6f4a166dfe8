package dkv

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// The tests here measure how often clients send requests in vain when their cluster cannot
// serve them.
const measured = 3 * time.Second

// calls returns how many calls of a method all nodes have had.
func (c *cluster) calls(method string) func() int {
	return func() (n int) {
		for _, node := range c.nodes {
			n += node.count(method)
		}
		return n
	}
}

// settles waits until a count grows by at most so much a second: the clients' pauses grow, the
// later the busier the host.
func settles(t *testing.T, what string, count func() int, most float64) {
	t.Helper()
	testkit.Eventually(t, what+" are rare", func() bool {
		before, began := count(), time.Now()
		<-time.After(measured)
		rate := float64(count()-before) / time.Since(began).Seconds()
		t.Logf("%.1f %s a second", rate, what)
		return rate <= most
	})
}

// keepPutting makes calls that wait until the test ends.
func keepPutting(t *testing.T, c *Client, calls int) {
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	t.Cleanup(func() { cancel(); waiting.Wait() })
	for range calls {
		waiting.Go(func() {
			for ctx.Err() == nil {
				limited, cancel := context.WithTimeout(ctx, testkit.Patience)
				if _, err := c.Put(limited, []byte("k"), nil); err == nil {
					t.Error("a put succeeded")
				}
				cancel()
			}
		})
	}
}

// TestBusyWithoutLeader has many calls wait for a leader: the client's probes do not
// increase with them, and its attempts become rare. The next leader is found soon.
func TestBusyWithoutLeader(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	cl.lead(nil)
	const calls = 100
	t.Run("while there is none", func(t *testing.T) {
		keepPutting(t, c, calls)
		settles(t, "questions", cl.calls(serverpb.DKVNode_GetNodeStatus_FullMethodName), 6)
		settles(t, "attempts", cl.calls(serverpb.DKV_Put_FullMethodName), 2*calls)
	})
	cl.lead(cl.nodes[1])
	began := time.Now()
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	if d := time.Since(began); d > enough/4 {
		t.Errorf("the next leader was found after %v", d)
	}
}

// TestBusyWithALeaderThatRefuses has calls fail at a node that reports that it leads:
// probing it again and again does not help.
func TestBusyWithALeaderThatRefuses(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	for _, n := range cl.nodes {
		n.fail(func(context.Context, string) error {
			return explained(codes.Unavailable, kv.ReasonNotApplied, "paused")
		}, nil)
	}
	keepPutting(t, c, 10)
	settles(t, "questions", cl.calls(serverpb.DKVNode_GetNodeStatus_FullMethodName), 6)
}

// TestRegistryThatEndsItsStreams checks that such a registry, and the nodes, are asked
// less and less often.
func TestRegistryThatEndsItsStreams(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3, 1)
	r := startRegistry(t, testkit.Address(t))
	r.ends = true
	r.set(cl.nodes...)
	ready(t, "discovery://"+r.addr+"/db")
	settles(t, "questions", cl.calls(serverpb.DKVNode_GetNodeStatus_FullMethodName), 4)
	settles(t, "streams", func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.watches
	}, 4)
}

// TestPolledRegistryTellsNoNews checks that the nodes are not probed while a polled
// registry repeats itself.
func TestPolledRegistryTellsNoNews(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 3, 1)
	r := startRegistry(t, testkit.Address(t))
	r.polls = true
	r.set(cl.nodes...)
	ready(t, "discovery://"+r.addr+"/db")
	settles(t, "questions", cl.calls(serverpb.DKVNode_GetNodeStatus_FullMethodName), 2.1) // one of each node in 5 s, or just so
}
