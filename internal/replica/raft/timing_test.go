package raft

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// slowTiming is that of a member that was configured for longer distances: it goes on
// reading by lease when the others have long elected another leader.
var slowTiming = timing.Timing{RTT: 10 * time.Millisecond, Election: 200, Heartbeat: 2, Lease: 1500 * time.Millisecond}

// reading is a linearizable read that was answered.
type reading struct {
	begun time.Time
	value string
}

// readOn reads a key at a member, one read after the other, until stop is called, which
// returns what was read.
func (n *node) readOn(key string) (stop func() []reading) {
	ctx, cancel := context.WithCancel(context.Background())
	var reads []reading
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			attempt, done := context.WithTimeout(ctx, 50*time.Millisecond)
			begun := time.Now()
			if pair, _, _, err := n.Get(attempt, []byte(key), kv.ReadOptions{Level: kv.Linearizable}); err == nil {
				reads = append(reads, reading{begun, string(pair.Value)})
			}
			done()
		}
	})
	stop = func() []reading { cancel(); wg.Wait(); return reads }
	n.c.t.Cleanup(func() { stop() })
	return stop
}

// TestLongerLeasesAreWaitedFor: where one member's leases are longer than the others', its
// successor waits for them to end, since the log says how long they are.
func TestLongerLeasesAreWaitedFor(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) {
		c.timing = map[uint64]timing.Timing{1: slowTiming}
		c.net = newNetwork()
	})
	slow := c.nodes[0]
	c.lead(slow)
	if _, err := slow.Propose(t.Context(), replicatest.Put("k", "old")); err != nil {
		t.Fatal(err)
	}
	stop := slow.readOn("k")
	testkit.Eventually(t, "it reads by lease", func() bool { return slow.Stats().LeaseReads > 0 })
	c.net.isolate(slow.addr, true)
	var next *node
	testkit.Eventually(t, "the others have a leader", func() bool {
		for _, n := range c.nodes[1:] {
			if id, term := n.leads(); id == n.id && term > slow.keeper.Stats().Term {
				next = n
			}
		}
		return next != nil
	})
	elected := time.Now()
	testkit.Eventually(t, "a write is acknowledged by the next owner", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := next.Propose(ctx, replicatest.Put("k", "new"))
		return err == nil
	})
	acknowledged := time.Now()
	testkit.Eventually(t, "the lease has ended", func() bool { return !slow.keeper.Held() })
	late, stale := 0, 0
	for _, r := range stop() {
		if r.begun.After(elected) {
			late++
		}
		if r.begun.After(acknowledged) && r.value == "old" {
			stale++
		}
	}
	if stale > 0 {
		t.Errorf("%d reads that began after the new value was acknowledged have returned the old one", stale)
	}
	if late == 0 {
		t.Error("the former owner has read nothing after its successor's election: the test shows nothing")
	}
	t.Logf("acknowledged %v after the election, %d reads at the former owner in between", acknowledged.Sub(elected), late)
}
