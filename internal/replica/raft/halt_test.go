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

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/tail"
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
		err := tail.Each(s.log, s.at()+1, last+1, func(e *raftpb.Entry) error {
			_, is, err := tail.CommandOf(e)
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
	if own, err := owner.state.Machine().LastDigest(); err != nil || own == 0 || h.Digest == 0 || h.Digest == own {
		t.Errorf("%v, the digest of the end is %x, and that of its own state %x", err, h.Digest, own)
	}
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

// What is said of an earlier start of the replica does not count for the one that runs: that may
// have an entry in its hands, and acknowledge it.
func TestHaltWaitsForTheStartThatRuns(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	former := n.applier.Load()
	n.fail(errTestFull)
	testkit.Eventually(t, "the replica is back", func() bool { return n.State() == replica.Serving && n.applier.Load() != former })
	c.put("k", "w")
	release := n.holdWrites()
	proposed := make(chan error, 1)
	go func() {
		_, err := n.Propose(t.Context(), replicatest.Put("k", "x"))
		proposed <- err
	}()
	testkit.Eventually(t, "an entry is being applied", func() bool { return n.gated.Load() > 0 })
	if err := former.Close(); err != nil { // Dragonboat may say so late, or twice
		t.Fatal(err)
	}
	n.Retire(errHalt)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if n.awaitUnloaded(soon) == nil {
		t.Error("it counts as stopped while an entry is being applied")
	}
	release()
	if err := n.awaitUnloaded(testkit.Within(t, patience)); err != nil {
		t.Error(err)
	}
	<-proposed
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

// haltedLog is the log of a replica that takes no part in it any more.
type haltedLog struct {
	first   uint64
	entries []raftpb.Entry
	// members are those of the newest snapshot.
	members raftpb.Membership
}

func (l *haltedLog) GetRange() (first, last uint64) {
	return l.first, l.first + uint64(len(l.entries)) - 1
}
func (l *haltedLog) NodeState() (raftpb.State, raftpb.Membership) { return raftpb.State{}, l.members }
func (l *haltedLog) Term(uint64) (uint64, error)                  { return 7, nil }
func (l *haltedLog) Snapshot() raftpb.Snapshot                    { return raftpb.Snapshot{} }

func (l *haltedLog) Entries(low, high, _ uint64) ([]raftpb.Entry, error) {
	return l.entries[low-l.first : high-l.first], nil
}

// halted returns what a replica knows of a log whose members it has read at the entry from.
func (n *node) halted(log *haltedLog, from, by uint64) (Halted, error) {
	s := &machine{r: n.Replica, log: log}
	s.state.Store(n.state.Machine())
	out := Halted{Voters: [][]uint64{{1, 2, 3}}}
	return out, n.readHalted(s, from, by, &out)
}

// A snapshot replaces the log before the state: until that has it as well, the member knows neither
// the end of the log nor its members, although its log may be the longest.
func TestHaltedMemberThatLacksASnapshotDoesNotCount(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	n := c.owner()
	at := n.state.Machine().Applied()
	if _, err := n.halted(&haltedLog{first: at + 1}, at, 3); err != nil {
		t.Errorf("a log that was compacted up to the state: %v", err)
	}
	if h, err := n.halted(&haltedLog{first: at + 2}, at, 3); err == nil || !strings.Contains(err.Error(), "not taken up yet") {
		t.Errorf("a log that begins behind the state: %v, %+v", err, h)
	}
	if h, err := n.halted(&haltedLog{first: at, entries: make([]raftpb.Entry, 1), members: raftpb.Membership{ConfigChangeId: at}}, at, 3); err == nil {
		t.Errorf("members that are those of before the snapshot: %+v", h)
	}
}

// A change of the members that was applied after they were read is behind what they are, although it
// is not behind the state.
func TestChangeThatIsAppliedMeanwhileCounts(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	n := c.owner()
	at := n.state.Machine().Applied()
	raw, err := (&raftpb.ConfigChange{Type: raftpb.AddNode, ReplicaID: 4}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	log := &haltedLog{first: at - 1, entries: []raftpb.Entry{
		{Index: at - 1, Type: raftpb.ConfigChangeEntry, Cmd: raw}, {Index: at, Type: raftpb.EncodedEntry, Cmd: []byte{0xff}},
	}}
	h, err := n.halted(log, at-2, 3)
	if want := [][]uint64{{1, 2, 3}, {1, 2, 3, 4}}; err != nil || !slices.EqualFunc(h.Voters, want, slices.Equal) || h.End != at {
		t.Errorf("%+v, %v", h, err)
	}
}

// A seal that is not applied counts: the founder that has it may have its answer.
func TestHaltedMemberKnowsOfSealsThatWait(t *testing.T) {
	var h Halted
	for _, c := range []command.Command{
		{Kind: command.Seal, Expect: []byte("p")}, {Kind: command.Seal, Expect: []byte("q")}, {Kind: command.Seal, Expect: []byte("q")},
		{Kind: command.Unseal, Expect: []byte("p")}, {Kind: command.Unseal, Expect: []byte("r")},
	} {
		h.follow(&c)
	}
	if !slices.Equal(h.Seals, []string{"q"}) {
		t.Errorf("%q", h.Seals)
	}
}

// So does a standing set: it may say that the masters have a record in the registry.
func TestHaltedMemberKnowsOfStandingSetsThatWait(t *testing.T) {
	var h Halted
	h.follow(&command.Command{Kind: command.SetStandbys, Expect: []byte("{}")})
	if len(h.Standbys) != 1 || string(h.Standbys[0]) != "{}" {
		t.Errorf("%q", h.Standbys)
	}
}
