package raft

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A restart that has lost what was not synced serves nothing older than what was read
// before: first it applies what its own log knows to be decided, without a leader.
func TestRaftServesNothingBeforeItHasReplayed(t *testing.T) {
	c := newCluster(t, 1)
	var last kv.Index
	for i := range 20 {
		last = c.put(fmt.Sprint("k", i), "v")
	}
	n := c.owner()
	n.wantAt(last, "k19", "v")
	n.kill() // as a power loss: the engine has synced nothing
	release := n.holdWrites()
	n.start()
	testkit.Eventually(t, "the log gives it entries to apply", func() bool { return n.floor.Load() != 0 && n.gated.Load() > 0 })
	if n.floor.Load() != last {
		t.Errorf("it would serve from index %d on, and had served %d", n.floor.Load(), last)
	}
	select {
	case <-n.Served():
		t.Errorf("it serves at index %d; %d was read before", n.state.Machine().Applied(), last)
	default:
	}
	if n.State() != replica.Starting || n.Readable() {
		t.Errorf("state %s, readable %v", n.State(), n.Readable())
	}
	release()
	<-n.Served()
	pair, _, _, err := n.Get(t.Context(), []byte("k19"), kv.ReadOptions{})
	if err != nil || string(pair.Value) != "v" {
		t.Errorf("the first read: %q, %v", pair.Value, err)
	}
}

// It closes while it replays.
func TestRaftClosesWhileItReplays(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	n.kill()
	release := n.holdWrites()
	n.start()
	testkit.Eventually(t, "it replays", func() bool { return n.gated.Load() > 0 })
	n.stop()
	release()
	<-n.ran
}
