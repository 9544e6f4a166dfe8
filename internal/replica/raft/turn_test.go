package raft

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// fill returns a command with a value of some size, and what reports whether the log of a node
// has no room for it.
func fill(t *testing.T, n *node, size int) (c *command.Command, full func() bool) {
	c = replicatest.Put("k", strings.Repeat("v", size))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	return c, func() bool {
		turn, err := n.proposals.Begin(gone, c, time.Time{})
		if err == nil {
			turn.End()
		}
		return err != nil
	}
}

// abandoned is an owner at which the caller of a large command has left while it is being
// applied, which goes on once the writes are released.
func (c *cluster) abandoned() (n *node, large *command.Command, full func() bool, release func()) {
	c.t.Helper()
	for {
		n = c.owner()
		large, full = fill(c.t, n, 9<<20)
		release = n.holdWrites()
		ctx, cancel := context.WithCancel(c.t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := n.Propose(ctx, large)
			left <- err
		}()
		elected := false
		testkit.Eventually(c.t, "a large command is being applied", func() bool {
			elected = len(left) > 0
			return elected || full() && n.gated.Load() > 0
		})
		cancel()
		err := <-left
		if !elected {
			if kv.OutcomeOf(err) != kv.Unknown {
				c.t.Errorf("a command that the log has, of a caller who leaves: %v", err)
			}
			return n, large, full, release
		}
		// Sending so much takes long enough on a busy machine for an election.
		c.t.Logf("the owner changed in between: %v", err)
		release()
	}
}

// A large command keeps its room in the log until it is applied, though its caller has left:
// the next one waits in front of the log, and has certainly not been applied if it gives up
// there.
func TestLargeCommandsWaitInFrontOfTheLog(t *testing.T) {
	n, large, full, release := newCluster(t, 1).abandoned()
	if !full() {
		t.Error("the caller has taken the room along, while the log has the command still")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.Propose(ctx, large); kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("a large command behind one: %v", err)
	}
	release()
	if _, err := n.Propose(t.Context(), large); err != nil {
		t.Errorf("a large command once the log is free: %v", err)
	}
}

// A node that no longer leads the log gives the room of abandoned commands back, so that those
// that wait hear that they have to ask another one.
func TestRoomOfAFormerOwner(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.timeout = time.Hour })
	n, _, full, _ := c.abandoned()
	for _, other := range c.nodes {
		if other != n {
			other.kill()
		}
	}
	testkit.Eventually(t, "the room is given back", func() bool { return !full() })
}

// Small commands keep their room as well: otherwise callers with short deadlines fill the log
// with more and more of them.
func TestSmallCommandsKeepTheirRoom(t *testing.T) {
	n := newCluster(t, 1, func(c *cluster) { c.timeout = time.Hour }).owner()
	small, full := fill(t, n, 15<<10)
	release := n.holdWrites()
	ctx, cancel := context.WithCancel(t.Context())
	const callers = 300 // more than there is room for
	left := make(chan error, callers)
	for range callers {
		go func() {
			_, err := n.Propose(ctx, replicatest.Put("k", strings.Repeat("v", 15<<10)))
			left <- err
		}()
	}
	testkit.Eventually(t, "the log is full of small commands", func() bool { return full() && n.gated.Load() > 0 })
	cancel()
	outcomes := map[kv.Outcome]int{}
	for range callers {
		outcomes[kv.OutcomeOf(<-left)]++
	}
	if !full() || outcomes[kv.Unknown] == 0 || outcomes[kv.NotApplied] == 0 {
		t.Errorf("the log is full: %v; callers by outcome: %v", full(), outcomes)
	}
	release()
	testkit.Eventually(t, "the room is given back", func() bool { return !full() })
	if _, err := n.Propose(t.Context(), small); err != nil {
		t.Errorf("a small command once the log is free: %v", err)
	}
	testkit.Eventually(t, "all commands have ended", func() bool {
		n.left.mu.Lock()
		defer n.left.mu.Unlock()
		return !n.left.ending
	})
}
