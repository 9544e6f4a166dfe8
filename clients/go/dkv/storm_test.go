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
// serve them. After settling, the pauses have grown to their bounds.
const settling, measured = 6 * time.Second, 3 * time.Second

// rate is how often a method is called at all nodes in a second.
func (c *cluster) rate(method string) float64 {
	count := func() (n int) {
		for _, node := range c.nodes {
			n += node.count(method)
		}
		return n
	}
	before := count()
	<-time.After(measured)
	return float64(count()-before) / measured.Seconds()
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
		<-time.After(settling)
		questions := cl.rate(serverpb.DKVNode_GetNodeStatus_FullMethodName) / 3
		attempts := cl.rate(serverpb.DKV_Put_FullMethodName) / calls
		t.Logf("%.1f questions a second to each node, %.1f attempts a second of each call", questions, attempts)
		if questions > 2 || attempts > 2 {
			t.Error("that is too many")
		}
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
	<-time.After(settling)
	questions := cl.rate(serverpb.DKVNode_GetNodeStatus_FullMethodName) / 3
	t.Logf("%.1f questions a second to each node", questions)
	if questions > 2 {
		t.Error("that is too many")
	}
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
	questions := cl.rate(serverpb.DKVNode_GetNodeStatus_FullMethodName)
	r.mu.Lock()
	watches := r.watches
	r.mu.Unlock()
	t.Logf("%d streams within %v, %.1f questions a second", watches, measured, questions)
	if watches > 12 || questions > 4 {
		t.Error("that is too many")
	}
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
	<-time.After(time.Second)
	questions := cl.rate(serverpb.DKVNode_GetNodeStatus_FullMethodName) / 3
	t.Logf("%.1f questions a second to each node", questions)
	if questions > 0.7 { // one each 5 s, or just so
		t.Error("that is too many")
	}
}
