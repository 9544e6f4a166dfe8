package raft

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestKeeperLooksAgainWhenThisReplicaLeads: Dragonboat reports that before GetLeaderID says so, and a
// keeper that has looked in between would begin no epoch for half a second.
func TestKeeperLooksAgainWhenThisReplicaLeads(t *testing.T) {
	var changed signal.Signal
	c := newCluster(t, 1, func(c *cluster) { c.options = func(_ *node, o *Options) { o.Changed = &changed } })
	c.put("k", "v")
	n := c.owner()
	testkit.Eventually(t, "nothing changes any more", func() bool {
		select {
		case <-changed.Changed():
			return false
		case <-time.After(200 * time.Millisecond):
			return true
		}
	})
	n.leaderUpdated(raftio.LeaderInfo{ShardID: 1, ReplicaID: n.id, LeaderID: n.id, Term: n.Term()})
	select {
	case <-changed.Changed(): // behind what leaderUpdated itself has raised
	case <-time.After(testkit.Patience):
		t.Error("the keeper is not told again")
	}
}

// TestLeaderThatDoesNotGetOnHearsOfTheNext: the disk of its log hangs, say, so that it does not hear
// from the log that it was deposed, but from the other members' status. What it is asked for goes to
// the next one, and a mutation that waits ends.
func TestLeaderThatDoesNotGetOnHearsOfTheNext(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.timeout = long })
	c.put("k", "v")
	n := c.owner()
	if err := n.SetMember(t.Context(), 2, replica.Member{Address: "grpc-2", RaftAddress: "127.0.0.1:1", UUID: "disk"}); err != nil {
		t.Fatal(err)
	}
	n.holdWrites()
	term := n.Term()
	n.HearLeader(2, term) // old news
	if got := n.Owner(); !got.Self || !n.Status().IsLeader {
		t.Errorf("it sends to %+v", got)
	}
	err := ended(t, "a mutation", func(ctx context.Context) error {
		time.AfterFunc(2*leaderLook, func() { n.HearLeader(2, term+1) })
		_, err := n.Propose(ctx, replicatest.Put("k", "w"))
		return err
	})
	if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.Unknown {
		t.Errorf("a mutation that waits: %v", err)
	}
	want := replica.Owner{ID: 2, Address: "grpc-2"}
	if got, status := n.Owner(), n.Status(); got != want || status.Owner != want || status.IsLeader || status.Term != term+1 {
		t.Errorf("it sends to %+v and says %+v, want %+v", got, status, want)
	}
}

// outOfSpace fills a member's disk until its replica has stopped for it.
func (n *node) outOfSpace() {
	t := n.c.t
	t.Helper()
	err := fmt.Errorf("write: %w", storage.ErrNoSpace)
	n.fault.Store(&err)
	if err := n.Snapshot(context.Background()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return n.State() == replica.Failed })
}

// TestFailedReplicaSendsToTheOwner: a replica that has stopped for its disk does not
// take itself for the owner of a log that goes on without it.
func TestFailedReplicaSendsToTheOwner(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	owner, full := c.owner(), c.follower()
	testkit.Eventually(t, "all members are known", func() bool { return len(full.Members()) == 3 })
	full.wantAt(index, "k", "v")
	full.outOfSpace()
	want := replica.Owner{ID: owner.id, Address: fmt.Sprint("grpc-", owner.id)}
	if got := full.Owner(); got != want {
		t.Errorf("a failed follower sends to %+v, want %+v", got, want)
	}

	// The owner fails too: who comes next it can only be told.
	full.fault.Store(nil)
	testkit.Eventually(t, "the replica is back", func() bool { return full.State() == replica.Serving })
	was := owner.Status().Term
	owner.outOfSpace()
	if got := owner.Owner(); got.Self || got.ID == owner.id {
		t.Errorf("a failed owner sends to %+v", got)
	}
	others := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == owner })
	var next *node
	testkit.Eventually(t, "another one leads", func() bool {
		for _, n := range others {
			if s := n.Status(); s.IsLeader && s.Term > was {
				next = n
			}
		}
		return next != nil
	})
	owner.HearLeader(next.id, next.Status().Term)
	owner.HearLeader(99, was) // old news
	want = replica.Owner{ID: next.id, Address: fmt.Sprint("grpc-", next.id)}
	if got, status := owner.Owner(), owner.Status(); got != want || status.Owner != want || status.IsLeader {
		t.Errorf("it sends to %+v and says %+v, want %+v", got, status.Owner, want)
	}
	owner.fault.Store(nil)
	testkit.Eventually(t, "the former owner is back", func() bool { return owner.State() == replica.Serving })
}

// TestFailedReplicaAlone has no other member to send to, and returns its own error.
func TestFailedReplicaAlone(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	// What an addition leaves that was interrupted before the node was a member.
	if err := n.SetMember(t.Context(), 2, replica.Member{RaftAddress: "127.0.0.1:1", UUID: "disk"}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is announced itself", func() bool { return len(n.Members()) == 2 })
	n.outOfSpace()
	if got := n.Owner(); !got.Self {
		t.Errorf("it sends to %+v", got)
	}
}

// TestOwnerCostsNothing: each request that is forwarded asks for it. Its address is that of
// the present record all the same.
func TestOwnerCostsNothing(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	owner, follower := c.owner(), c.follower()
	testkit.Eventually(t, "all members are known", func() bool { return len(follower.Members()) == 3 })
	if n := testing.AllocsPerRun(100, func() { follower.Owner() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	m := owner.Members()[owner.id]
	m.Address = "another"
	if err := owner.SetMember(t.Context(), owner.id, m); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the follower sends to the new address", func() bool { return follower.Owner().Address == "another" })
}
