package raft

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A large command keeps its room in the log until it is applied, though its caller has left:
// the next one waits in front of the log, and has certainly not been applied if it gives up
// there.
func TestLargeCommandsWaitInFrontOfTheLog(t *testing.T) {
	n := newCluster(t, 1).owner()
	large := replicatest.Put("k", strings.Repeat("v", 9<<20))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	full := func() bool {
		turn, err := n.proposals.Begin(gone, large, time.Time{})
		if err == nil {
			turn.End()
		}
		return err != nil
	}
	release := n.holdWrites()
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := n.Propose(ctx, large)
		first <- err
	}()
	testkit.Eventually(t, "a large command is being applied", func() bool { return full() && n.gated.Load() > 0 })
	leave()
	if err := <-first; kv.OutcomeOf(err) != kv.Unknown {
		t.Errorf("a command that the log has, of a caller who leaves: %v", err)
	}
	if !full() {
		t.Error("the caller has taken the room along, while the log has the command still")
	}
	ctx, leave = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer leave()
	if _, err := n.Propose(ctx, large); kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("a large command behind one: %v", err)
	}
	release()
	if _, err := n.Propose(t.Context(), large); err != nil {
		t.Errorf("a large command once the log is free: %v", err)
	}
}
