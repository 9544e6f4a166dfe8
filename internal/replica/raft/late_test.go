package raft

import (
	"testing"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// slowLog is the log of a machine that stands still in the middle of an Update: it has
// looked whether it is live, and has not applied anything yet.
type slowLog struct {
	dragonboat.ReadonlyLogReader
	first         uint64
	entered, gate chan struct{}
}

func (l *slowLog) GetRange() (first, last uint64) {
	close(l.entered)
	<-l.gate
	return l.first, l.first
}

// What the log's library still applies for a replica's former part in the log, which
// failed, does not get into the state that the replica has opened again, and does not
// fail it a second time.
func TestRaftLateUpdateOfAFormerPart(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	before := n.state.Machine()
	late := before.Applied() + 100
	log := &slowLog{first: late, entered: make(chan struct{}), gate: make(chan struct{})}
	former := &machine{r: n.Replica, log: log}
	former.state.Store(before)
	n.applier.Store(former)

	w := replicatest.Put("late", "v")
	w.Fence = before.Epoch().ID
	updated := make(chan []statemachine.Entry, 1)
	go func() {
		out, err := former.Update([]statemachine.Entry{{Index: late, Cmd: w.Append(nil)}})
		if err != nil {
			t.Error(err)
		}
		updated <- out
	}()
	<-log.entered
	n.fail(errTestFull)
	testkit.Eventually(t, "the replica is back", func() bool { return n.State() == replica.Serving && n.state.Machine() != before })
	again := n.state.Machine()
	close(log.gate)
	out := <-updated
	if _, applied, err := unpackResult(out[0].Result); err != nil || applied {
		t.Errorf("the late entry counts as applied: %v, %v", applied, err)
	}
	if _, found, err := again.Get([]byte("late"), 0); err != nil || found || again.Applied() >= late {
		t.Errorf("the late entry is in the state, which is at %d: %v, %v", again.Applied(), found, err)
	}
	if n.State() != replica.Serving {
		t.Errorf("the replica is %v: %v", n.State(), n.state.Standing().Err)
	}
	c.put("k", "w")
	c.want("k", "w")
}
