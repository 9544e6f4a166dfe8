package dkv

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Calls that wait for a node that hangs go to another one once the cluster has
// replaced it.
func TestHungLeader(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	allReplicas(t, c, 3)
	ctx := testkit.Within(t, 2*enough)
	cl.nodes[0].hang()
	done := make(chan error, 2)
	go func() {
		_, _, err := c.Increment(ctx, []byte("n"), 1)
		done <- err
	}()
	go func() {
		_, err := c.Get(ctx, []byte("k"))
		done <- err
	}()
	testkit.Eventually(t, "both wait", func() bool { return cl.nodes[0].count(incrementMethod)+cl.nodes[0].count(getMethod) == 2 })
	cl.lead(cl.nodes[1])
	for range 2 {
		if err := <-done; err != nil && !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	if got := []byte(cl.pairs()["n"]); len(got) != 8 || got[7] != 1 {
		t.Errorf("the counter is %v", got)
	}
}

// An election takes some seconds. Calls of the default time that wait for the former leader, which hangs,
// have time left when it is over.
func TestHungLeaderThatIsReplacedLater(t *testing.T) {
	cl := newCluster(t, 3, 1)
	c := ready(t, cl.addrs())
	allReplicas(t, c, 3)
	cl.nodes[0].hang()
	elected := time.AfterFunc(2*time.Second, func() { cl.lead(cl.nodes[1]) })
	defer elected.Stop()
	if _, _, err := c.Increment(t.Context(), []byte("n"), 1); err != nil {
		t.Error(err)
	}
}

// Calls with much time that wait for a leader that does not answer have the nodes be asked who
// leads now, before one of them ends.
func TestCallsThatStallAskWhoLeads(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	cl.nodes[0].hang()
	tasks := sync.WaitGroup{}
	defer tasks.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*enough)
	defer cancel()
	tasks.Go(func() { c.Get(ctx, []byte("k")) })
	testkit.Eventually(t, "the call waits", func() bool { return cl.nodes[0].count(getMethod) == 1 })
	asked := c.learner.probeNow.Changed()
	select {
	case <-asked:
	case <-time.After(enough):
		t.Error("no one asks who leads")
	}
}

// A call of the user's own to a node may take long, and is not waited for as others are.
func TestCallsOfConnDoNotStall(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	cl.nodes[0].hang()
	tasks := sync.WaitGroup{}
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := must[*node](t)(c.node(cl.nodes[0].addr))
	// Probes are waited for too, and come and go.
	tasks.Go(func() {
		c.Conn(n.addr).Invoke(ctx, getMethod, &serverpb.GetRequest{Key: []byte("k")}, new(serverpb.GetResponse))
	})
	testkit.Eventually(t, "a call of Conn, which is not waited for", func() bool { return n.calls.Load() == 1 && !n.waitedFor() })
	tasks.Go(func() { c.Get(ctx, []byte("k")) })
	testkit.Eventually(t, "a read, which is waited for", func() bool { return n.calls.Load() == 2 && n.waitedFor() })
}

// Calls whose time ends at a leader that does not answer have the nodes be asked who leads now,
// so that the next ones need not wait for the next round.
func TestCallsThatEndInVainAskWhoLeads(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	// Longer than the call's time: an answer at its end could come just before the client gives up.
	ended := make(chan struct{})
	defer close(ended)
	cl.nodes[0].fail(func(_ context.Context, method string) error {
		if method == getMethod {
			<-ended
		}
		return nil
	}, nil)
	for _, level := range []Level{Linearizable, Sequential} {
		if level == Sequential {
			cl.nodes[1].stop()
			testkit.Eventually(t, "one replica is left", func() bool { return len(c.topology.Load().vBuckets[0].replicas) == 1 })
		}
		asked := c.learner.probeNow.Changed()
		if _, err := c.Get(testkit.Within(t, 30*time.Millisecond), []byte("k"), level); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		select {
		case <-asked:
		default:
			t.Errorf("level %d: no one asks who leads", level)
		}
	}
}
