package raft

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

var errHalt = errors.New("a promotion stops it")

// unacknowledged proposes a mutation at an owner that reaches no other member, and returns the owner
// once its log has it.
func (c *cluster) unacknowledged(key, value string) (owner *node) {
	c.t.Helper()
	testkit.Eventually(c.t, "the log of the owner alone has an entry", func() bool {
		owner = c.owner()
		c.net.isolate(owner.addr, true)
		ctx, end := context.WithTimeout(c.t.Context(), 300*time.Millisecond)
		defer end()
		_, _ = owner.Propose(ctx, replicatest.Put(key, value)) // it cannot be committed
		found, s := false, owner.applier.Load()
		_, last := s.log.GetRange()
		err := eachEntry(s.log, s.at()+1, last+1, func(e *raftpb.Entry) error {
			_, is, err := commandOf(e)
			found = found || is
			return err
		})
		if err != nil || !found {
			c.net.isolate(owner.addr, false) // it had stepped down before
		}
		return err == nil && found
	})
	return owner
}

// A member that is halted gives what its log has beyond its state in a copy: its own state has
// nothing that may never be committed, and it takes part again after a restart.
func TestHaltedMemberKnowsTheEndOfItsLog(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.net = newNetwork() })
	before := c.put("k", "old")
	owner := c.unacknowledged("k", "new")
	tail := filepath.Join(c.dir, "tail")
	h, err := owner.Halt(t.Context(), errHalt, tail)
	if err != nil || h.Fault != nil {
		t.Fatal(err, h.Fault)
	}
	if h.End <= h.Applied || h.Applied < before || h.Last == 0 || h.Term == 0 || h.Lease < owner.host.LeaseLength() || len(h.Voters) != 1 || !slices.Equal(h.Voters[0], []uint64{1, 2, 3}) {
		t.Errorf("%+v", h)
	}
	owner.wantIn(t, tail, "new", h.End)
	if applied := owner.state.Machine().Applied(); applied != h.Applied {
		t.Errorf("its own state is at %d, and was at %d", applied, h.Applied)
	}
	if _, err := owner.Propose(t.Context(), replicatest.Put("k", "later")); err == nil || !strings.Contains(err.Error(), errHalt.Error()) {
		t.Errorf("it accepts a mutation: %v", err)
	}
	if id, _ := owner.leads(); id != 0 {
		t.Errorf("it knows the leader %d: it takes part", id)
	}
	c.net.isolate(owner.addr, false)
	c.put("k", "without it") // the others go on
	owner.kill()
	owner.start()
	c.want("k", "without it")
}

// wantIn opens a state in a folder.
func (n *node) wantIn(t *testing.T, dir, value string, at kv.Index) {
	t.Helper()
	engine, err := n.openEngine(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pair, found, err := m.Get([]byte("k"), m.Clock())
	if err != nil || !found || string(pair.Value) != value || m.Applied() != at {
		t.Errorf("%q, %v, %v at %d; want %q at %d", pair.Value, found, err, m.Applied(), value, at)
	}
}

// A change of the members that waits to be applied may be, or may be rejected: both lists count.
func TestChangesThatWaitCountBothWays(t *testing.T) {
	h := Halted{Voters: [][]uint64{{1, 2, 3}}}
	for _, c := range []raftpb.ConfigChange{{Type: raftpb.AddNode, ReplicaID: 4}, {Type: raftpb.RemoveNode, ReplicaID: 1}} {
		raw, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.change(&raftpb.Entry{Type: raftpb.ConfigChangeEntry, Cmd: raw}); err != nil {
			t.Fatal(err)
		}
	}
	if want := [][]uint64{{1, 2, 3}, {1, 2, 3, 4}, {2, 3}, {2, 3, 4}}; !slices.EqualFunc(h.Voters, want, slices.Equal) {
		t.Errorf("%v, want %v", h.Voters, want)
	}
}
