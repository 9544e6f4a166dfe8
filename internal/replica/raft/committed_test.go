package raft

import (
	"fmt"
	"testing"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// level waits until every member knows all that is decided and has applied it.
func (c *cluster) level(what string) {
	c.t.Helper()
	want := c.owner().state.Machine().Applied()
	for _, n := range c.nodes {
		testkit.Eventually(c.t, fmt.Sprintf("%s: member %d is level with the owner", what, n.id), func() bool {
			s := n.Status()
			return s.Applied >= want && s.Commit == s.Applied && s.Lag == 0
		})
	}
}

// A member whose storage stands still shows how far it is behind: it hears what is decided
// from the messages of the leader.
func TestRaftStalledMemberShowsItsLag(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	c.level("at first")
	stalled := c.follower()
	release := stalled.holdWrites()
	const writes = 20
	for i := range writes {
		c.put(fmt.Sprint("k", i), "v")
	}
	owner := c.owner()
	index := owner.state.Machine().Applied()
	testkit.Eventually(t, "the stalled member shows its lag", func() bool {
		s := stalled.Status()
		return s.Commit >= index && s.Lag == s.Commit-s.Applied && s.Lag >= writes
	})
	if s := owner.Status(); s.Lag != 0 || s.Commit < index || s.Age != 0 {
		t.Errorf("the owner is at %d of %d, lag %d, age %v", s.Applied, s.Commit, s.Lag, s.Age)
	}
	release()
	c.level("when it goes on")
}

// An owner whose storage stands still shows its lag, too.
func TestRaftStalledOwnerShowsItsLag(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	owner := c.owner()
	release := owner.holdWrites()
	put := make(chan struct{})
	go func() { defer close(put); c.put("l", "v") }()
	testkit.Eventually(t, "the stalled owner shows its lag", func() bool { return owner.Status().Lag > 0 })
	release()
	<-put
	c.level("when it goes on")
}

// What Dragonboat keeps to itself is no lag: the entries that begin terms, and changes of
// the membership.
func TestRaftEntriesOfTheLibraryAreNoLag(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	c.lead(c.follower())
	c.level("in another term")
	c.reconfigure("add a member that is not there", func(owner *node, m replica.Membership) error {
		return owner.Add(t.Context(), 9, testkit.Address(t), m.Version)
	})
	c.level("behind a change of the membership")
}

// A leader that is cut off says since when it does not know what is decided.
func TestRaftLeaderThatIsCutOffShowsItsAge(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.net = newNetwork() })
	c.put("k", "v")
	owner := c.owner()
	c.net.isolate(owner.addr, true)
	testkit.Eventually(t, "its age shows", func() bool { return owner.Status().Age > 2*freshInterval })
	c.net.isolate(owner.addr, false)
	testkit.Eventually(t, "it knows again", func() bool { return owner.Status().Age == 0 })
}
