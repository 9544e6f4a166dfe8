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

// large is a command that fills the log of a node, and reports whether it is full.
func large(t *testing.T, n *node) (c *command.Command, full func() bool) {
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

// leave proposes a command whose caller leaves while it is being applied.
func (n *node) leave(c *command.Command, full func() bool) {
	t := n.c.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := n.Propose(ctx, c)
		left <- err
	}()
	testkit.Eventually(t, "a large command is being applied", func() bool { return full() && n.gated.Load() > 0 })
	cancel()
	if err := <-left; kv.OutcomeOf(err) != kv.Unknown {
		t.Errorf("a command that the log has, of a caller who leaves: %v", err)
	}
}

// A large command keeps its room in the log until it is applied, though its caller has left:
// the next one waits in front of the log, and has certainly not been applied if it gives up
// there.
func TestLargeCommandsWaitInFrontOfTheLog(t *testing.T) {
	n := newCluster(t, 1).owner()
	large, full := large(t, n)
	release := n.holdWrites()
	n.leave(large, full)
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
	n := c.owner()
	large, full := large(t, n)
	n.holdWrites()
	n.leave(large, full)
	for _, other := range c.nodes {
		if other != n {
			other.kill()
		}
	}
	testkit.Eventually(t, "the room is given back", func() bool { return !full() })
}
