package raft

import (
	"context"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// long is what the callers of these tests would wait: longer than the tests do.
const long = 10 * testkit.Patience

// ended waits for a request that must end although its caller would wait for long.
func ended(t *testing.T, what string, request func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- request(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(testkit.Patience):
		t.Fatalf("%s waits for the whole time of its caller", what)
		return nil
	}
}

// TestCutOffOwnerEndsWhatWaits: an owner that is cut off from the others answers a mutation
// that waits, and may be committed, once it has given up the leadership. What is requested
// after that is sent elsewhere, and callers learn that no owner is known here. The other
// members serve meanwhile, and all agree when the cut has ended.
func TestCutOffOwnerEndsWhatWaits(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) {
		c.net = newNetwork()
		c.timeout = long
	})
	c.put("k", "v")
	var cut *node
	var waited error
	testkit.Eventually(t, "a mutation waits at an owner that is cut off", func() bool {
		cut = c.owner()
		c.net.isolate(cut.addr, true)
		waited = ended(t, "a mutation", func(ctx context.Context) error {
			_, err := cut.Propose(ctx, replicatest.Put("k", "w"))
			return err
		})
		if kv.OutcomeOf(waited) == kv.Unknown {
			return true
		}
		c.net.isolate(cut.addr, false) // the leadership was given up before the mutation was proposed
		return false
	})
	if kv.KindOf(waited) != kv.Unavailable {
		t.Errorf("a mutation that waits: %v", waited)
	}
	err := ended(t, "a mutation after that", func(ctx context.Context) error {
		_, err := cut.Propose(ctx, replicatest.Put("k", "x"))
		return err
	})
	if kv.KindOf(err) != kv.NotOwner || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("a mutation after that: %v", err)
	}
	err = ended(t, "a read after that", func(ctx context.Context) error {
		_, _, _, err := cut.Get(ctx, []byte("k"), kv.ReadOptions{Level: kv.Linearizable})
		return err
	})
	if kv.KindOf(err) != kv.NotOwner {
		t.Errorf("a read after that: %v", err)
	}
	testkit.Eventually(t, "it misses the owner", func() bool { return cut.Owner().Missed })
	c.put("k", "z")
	c.net.isolate(cut.addr, false)
	testkit.Eventually(t, "it knows the owner", func() bool { o := cut.Owner(); return o.ID != 0 && !o.Missed })
	cut.wantAt(c.put("k", "last"), "k", "last")
}

// TestDeposal: a command that waits at a former leader ends at the second look in a row that
// finds no leader, and under another leader after an election's time. It continues to wait
// where the leader leads again.
func TestDeposal(t *testing.T) {
	const self, election = 1, time.Second
	for name, c := range map[string]struct {
		leaders []uint64 // at looks that are 100 ms apart
		end     int      // the look that ends the wait, -1 for none
	}{
		"leads":                    {[]uint64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, -1},
		"is cut off":               {[]uint64{1, 1, 0, 0}, 3},
		"another one is elected":   {[]uint64{1, 0, 2, 2, 2}, -1},
		"it is elected again":      {[]uint64{0, 1, 0, 1, 0}, -1},
		"follows and hears of it":  {[]uint64{1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}, -1},
		"follows and hears no end": {[]uint64{1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}, 11},
		"follows and is cut off":   {[]uint64{1, 2, 2, 0, 0}, 4},
	} {
		var d deposal
		now, end := time.Now(), -1
		for i, leader := range c.leaders {
			if d.look(now.Add(time.Duration(i)*leaderLook), leader, self, election) {
				end = i
				break
			}
		}
		if end != c.end {
			t.Errorf("%s: the wait ends at look %d, want %d", name, end, c.end)
		}
	}
}
