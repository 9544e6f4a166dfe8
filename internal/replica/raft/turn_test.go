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

// fill returns a command that fills the log of a node, and what reports whether it is full.
func fill(t *testing.T, n *node) (c *command.Command, full func() bool) {
	c = replicatest.Put("k", strings.Repeat("v", 9<<20))
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
		large, full = fill(c.t, n)
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
