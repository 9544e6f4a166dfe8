package raft

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// promotedState is a state that a promotion has left, with its changes; last is the value of
// the last one.
func promotedState(t *testing.T, identity fsm.Identity, last string) storage.Engine {
	t.Helper()
	engine, err := memory.Open(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		t.Fatal(err)
	}
	begin := &command.Command{Kind: command.BeginEpoch, Begin: &command.Begin{Term: 1, Cluster: identity.Cluster, History: identity.History}}
	write := &command.Command{Kind: command.Write, Fence: 1, Clock: 1, Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte(last)}}}
	if err := m.Apply([]fsm.Entry{{Index: 1, Command: begin}, {Index: 2, Command: write}}, make([]command.Result, 2), true); err != nil {
		t.Fatal(err)
	}
	if err := offline.Fork(engine, offline.Branch{Former: identity.History, End: 2, History: "1-new", Clock: 5}); err != nil {
		t.Fatal(err)
	}
	return engine
}

// beginsWith has each node begin with a copy of what states says, by id.
func beginsWith(states func(id uint64) storage.Engine) func(*cluster) {
	return func(c *cluster) {
		c.options = func(n *node, o *Options) {
			open := o.Open
			o.Open = func(dir string) (storage.Engine, error) {
				engine, err := open(dir)
				if err != nil {
					return nil, err
				}
				if _, found, err := engine.Get(storage.Meta, []byte("identity")); found || err != nil {
					return engine, err
				}
				if state := states(n.id); state != nil {
					err = copySpaces(state, engine)
				}
				return engine, err
			}
		}
	}
}

func copySpaces(from storage.Reader, to storage.Engine) error {
	var b storage.Batch
	for space := range storage.Space(storage.Spaces) {
		it := from.Iterate(space, storage.Range{})
		for it.Next() {
			b.Put(space, it.Key(), it.Value())
		}
		it.Close()
	}
	return to.Write(&b, true)
}

// A log on promoted states continues their history above the gap.
func TestPromotedStatesBeginALog(t *testing.T) {
	state := promotedState(t, fsm.Identity{Cluster: "c", History: "old"}, "v")
	c := newCluster(t, 3, beginsWith(func(uint64) storage.Engine { return state }))
	index := c.put("l", "1")
	if index <= era.Gap+2 {
		t.Errorf("the first write has index %d", index)
	}
	c.want("l", "1")
	c.want("k", "v")
	for _, n := range c.nodes {
		n.wantAt(index, "l", "1")
	}
	if _, _, _, err := c.owner().Get(t.Context(), []byte("l"), kv.ReadOptions{MinIndex: 5}); kv.KindOf(err) != kv.Lost {
		t.Errorf("a read at an index that the promotion skipped: %v", err)
	}
	for _, n := range c.nodes { // the log has an epoch by now
		n.shutdown()
		n.start()
	}
	c.put("l", "2")
	c.want("l", "2")
}

// A member with another state than the one that begins the log takes no part in it, though its
// index is the same.
func TestAnotherStateStaysOutOfAPromotedLog(t *testing.T) {
	identity := fsm.Identity{Cluster: "c", History: "old"}
	same, other := promotedState(t, identity, "v"), promotedState(t, identity, "w")
	c := newCluster(t, 3, beginsWith(func(id uint64) storage.Engine {
		if id == 3 {
			return other
		}
		return same
	}))
	failed := func(n *node) bool {
		if n.State() != replica.Failed {
			return false
		}
		if err := n.Status().Err; !errors.Is(err, fsm.ErrDiverged) || !strings.Contains(err.Error(), "founded by a promotion") {
			t.Errorf("node %d failed with %v", n.id, err)
		}
		return true
	}
	testkit.Eventually(t, "those with another state than the owner's have stopped", func() bool {
		one, two, three := failed(c.nodes[0]), failed(c.nodes[1]), failed(c.nodes[2])
		return one == two && one != three
	})
}

// A member that is added to a promoted log gets the state that the log began with, whichever
// member leads it then.
func TestAMemberOfAPromotedLogGetsItsState(t *testing.T) {
	state := promotedState(t, fsm.Identity{Cluster: "c", History: "old"}, "v")
	c := newCluster(t, 3, beginsWith(func(id uint64) storage.Engine {
		if id > 3 {
			return nil // it comes with an empty disk
		}
		return state
	}))
	index := c.put("l", "1")
	joined := c.add(4, true)
	for _, n := range c.nodes[:3] {
		if !n.Continues() {
			t.Errorf("node %d does not say that its log began with a state", n.id)
		}
		if err := n.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.reconfigure("added", func(_ *node, m replica.Membership) error {
		return c.follower().Add(t.Context(), 4, joined.addr, m.Version)
	})
	joined.start()
	testkit.Eventually(t, "the member has caught up", func() bool {
		if err := joined.Status().Err; err != nil {
			t.Fatal(err)
		}
		return joined.Applied() >= index
	})
	joined.wantAt(index, "k", "v")
	for _, n := range c.nodes[:3] {
		if received := n.Stats().SnapshotsReceived; received != 0 {
			t.Errorf("node %d, which followed the log, got %d snapshots", n.id, received)
		}
	}
}

// The changes of a promoted log have their requests from the first one on, for the slaves that
// follow it and may be promoted next, however early its clients repeat them.
func TestFirstChangesOfAPromotedLogHaveTheirRequests(t *testing.T) {
	const clients = 8
	c := newCluster(t, 3, beginsPromoted(t))
	increment := func(client int) error {
		_, err := c.owner().Propose(t.Context(), incrementBy(uint64(client+1)))
		return err
	}
	owner := c.owner()
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() {
			// What fails is repeated below.
			_, _ = owner.Propose(t.Context(), incrementBy(uint64(client+1)))
		})
	}
	all.Wait()
	for client := range clients {
		testkit.Eventually(t, "an increment", func() bool { return increment(client) == nil })
	}
	index := c.put("end", "1")
	for _, n := range c.nodes {
		n.wantAt(index, "end", "1")
		changes, err := n.Changes(t.Context(), era.Gap+3, 0, 1<<20)
		if err != nil || len(changes.Changes) <= clients {
			t.Fatalf("member %d has the changes %+v, %v", n.id, changes.Changes, err)
		}
		for _, change := range changes.Changes[:clients] {
			if change.Request == nil {
				t.Errorf("member %d has change %d without its request", n.id, change.Index)
			}
		}
	}
}

// A mutation in front of which the format cannot be written in time is certainly not applied, and
// once when it is sent again.
func TestMutationBehindAFormatThatIsLate(t *testing.T) {
	c := newCluster(t, 1, beginsPromoted(t))
	owner := c.owner()
	release := owner.holdWrites()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := owner.Propose(ctx, incrementBy(1))
	if err == nil {
		t.Fatal("it was acknowledged without the disk")
	}
	// By now the owner may have written the format by itself, on a slow machine.
	if owner.state.Machine().Format() < command.NewestFormat {
		replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	}
	release()
	testkit.Eventually(t, "the increment", func() bool {
		res, err := c.owner().Propose(t.Context(), incrementBy(1))
		return err == nil && res.Counter == 1
	})
}

// beginsPromoted has all nodes begin with the state that a promotion has left.
func beginsPromoted(t *testing.T) func(*cluster) {
	state := promotedState(t, fsm.Identity{Cluster: "c", History: "old"}, "v")
	return beginsWith(func(uint64) storage.Engine { return state })
}

// incrementBy is a client's first request.
func incrementBy(client uint64) *command.Command {
	return &command.Command{
		Kind: command.Increment, Delta: 1, Request: kv.RequestID{Client: client, Sequence: 1},
		Mutations: []kv.Mutation{{Key: []byte("n")}},
	}
}
