package raft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// newKinds are those that releases of the first format do not know.
func newKinds() []command.Kind {
	return slices.DeleteFunc(command.Kinds(), func(k command.Kind) bool {
		return (&command.Command{Kind: k}).Format() == command.FirstFormat
	})
}

// of makes nodes, by id, understand formats of the log, in a cluster that was begun
// before there were any.
func of(formats map[uint64]uint32) func(*cluster) {
	return func(c *cluster) {
		c.options = func(n *node, o *Options) { o.Agreed, o.Self.LogFormat = 0, formats[n.id] }
	}
}

// announced waits until all members stand in the log at all nodes.
func (c *cluster) announced(n int) {
	c.t.Helper()
	testkit.Eventually(c.t, "the members have announced themselves", func() bool {
		for _, node := range c.nodes {
			if node.Replica != nil && len(node.Members()) < n {
				return false
			}
		}
		return true
	})
}

// wantFormat waits until the log has a format at all nodes.
func (c *cluster) wantFormat(want uint32) {
	c.t.Helper()
	testkit.Eventually(c.t, fmt.Sprint("the log has format ", want), func() bool {
		for _, node := range c.nodes {
			if node.Replica != nil && node.state.Machine().Format() != want {
				return false
			}
		}
		return true
	})
}

// finish finishes the upgrade to a format, which must be understood by all members.
func (c *cluster) finish(to uint32) {
	c.t.Helper()
	testkit.Eventually(c.t, fmt.Sprint("the upgrade to ", to, " is finished"), func() bool {
		return c.owner().RaiseFormat(c.t.Context(), to) == nil
	})
	c.wantFormat(to)
}

// While a member runs an older release, with a vote or without, nothing is proposed
// that it does not understand: what can be said in its format is, and the rest is
// refused by name. Nor can the upgrade be finished.
func TestRaftProposesWhatAllMembersUnderstand(t *testing.T) {
	formats := map[uint64]uint32{1: 2, 2: 2, 3: 1}
	c := newCluster(t, 3, of(formats))
	defer command.Forget(newKinds()...)() // any of them would stop all replicas
	c.announced(3)
	c.put("k", "v")
	if e := c.owner().state.Machine().Epoch(); e.Lease != command.UnstatedLease {
		t.Errorf("the epoch %+v states a lease", e)
	}
	reason := ""
	testkit.Eventually(t, "the owner has looked at all members", func() bool {
		_, reason = c.owner().agreed(t.Context(), 2)
		return reason != ""
	})
	if !strings.Contains(reason, "member n3") {
		t.Errorf("the format stays for %q", reason)
	}

	_, err := c.owner().Propose(t.Context(), &command.Command{Kind: command.SetClock})
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "member n3") || !strings.Contains(err.Error(), "does not understand this") || !strings.Contains(err.Error(), "upgrade it") {
		t.Errorf("refused for %v", err)
	}
	// What became of a request cannot be asked for without doing it again.
	repeat := replicatest.Put("r", "1")
	repeat.Request = kv.RequestID{Client: 1, Sequence: 1, Repeat: true}
	_, err = c.owner().Propose(t.Context(), repeat)
	replicatest.WantError(t, err, kv.Unavailable, kv.Unknown)
	// A read that needs the log's clock moved.
	expires := replicatest.Put("r", "1")
	expires.Mutations[0].ExpireTS = uint64(time.Now().Unix()) + 1
	if _, err := c.owner().Propose(t.Context(), expires); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the key expires", func() bool {
		_, found, _, err := c.owner().Get(t.Context(), []byte("r"), kv.ReadOptions{Level: kv.Linearizable})
		return err == nil && !found
	})
	c.put("k", "w")
	err = c.owner().RaiseFormat(t.Context(), 2)
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "member n3") || !strings.Contains(err.Error(), "understands version 1; upgrade it") {
		t.Errorf("refused for %v", err)
	}
	c.wantFormat(command.FirstFormat)
}

// The log keeps its format when all members understand a newer one, so that they can be
// downgraded, until the upgrade is finished.
func TestRaftRaisesTheFormatWhenTheUpgradeIsFinished(t *testing.T) {
	formats := map[uint64]uint32{1: 2, 2: 2, 3: 1}
	c := newCluster(t, 3, of(formats))
	c.announced(3)
	c.put("k", "v")
	n := c.nodes[2]
	n.shutdown()
	formats[3] = 2
	n.start()
	testkit.Eventually(t, "all members have announced that they understand it", func() bool {
		to, _ := c.owner().agreed(t.Context(), 2)
		return to == 2
	})
	_, err := c.owner().Propose(t.Context(), &command.Command{Kind: command.SetClock, Clock: 1})
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "it has version 1") || !strings.Contains(err.Error(), "dkvctl -upgrade finish") {
		t.Errorf("refused for %v", err)
	}
	if got := c.owner().NewestFormat(); got != 2 {
		t.Errorf("the newest format is %d", got)
	}
	c.wantFormat(command.FirstFormat)
	c.finish(2)
	c.finish(2) // again
	if _, err := c.owner().Propose(t.Context(), &command.Command{Kind: command.Tick}); err != nil {
		t.Error(err)
	}
	// From here on the older release does not start there.
	if err := n.state.Machine().Sync(); err != nil {
		t.Fatal(err)
	}
	n.shutdown()
	formats[3] = 1
	err = n.open()
	if !errors.Is(err, command.ErrNewer) || !strings.Contains(err.Error(), "upgrade this node") || !strings.Contains(err.Error(), "the log has format 2") {
		t.Errorf("started: %v", err)
	}
	n.Replica = nil
	if err := n.host.Close(); err != nil {
		t.Error(err)
	}
}

// A member without a vote counts, and so does one that has not announced itself.
func TestRaftFormatWaitsForMembersWithoutAVote(t *testing.T) {
	formats := map[uint64]uint32{1: 1, 2: 1}
	c := newCluster(t, 1, of(formats))
	c.put("k", "v")
	m, err := c.owner().Membership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := c.add(2, true)
	if err := c.owner().Add(t.Context(), 2, n.addr, m.Version); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].shutdown()
	formats[1] = 2
	c.nodes[0].start()
	c.put("k", "v")
	owner := c.owner()
	if to, reason := owner.agreed(t.Context(), 2); to > 1 || !strings.Contains(reason, "has not announced itself") {
		t.Errorf("agreed on %d; %s", to, reason)
	}
	n.start()
	c.announced(2)
	testkit.Eventually(t, "the owner knows what it understands", func() bool {
		to, reason := owner.agreed(t.Context(), 2)
		return to == 1 && strings.Contains(reason, "member n2 (replica 2) understands version 1")
	})
	n.shutdown()
	formats[2] = 2
	n.start()
	c.finish(2)
}

// What all members understood when the log was begun counts from its first entry.
func TestRaftBeginsAtTheFormatThatWasAgreed(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	if e := c.owner().state.Machine().Epoch(); e.Lease != fastTiming.Lease {
		t.Errorf("the first epoch %+v does not state its lease", e)
	}
	c.wantFormat(command.NewestFormat)
}

// stopped waits until all replicas have failed but one, which cannot learn any more that an entry
// is committed if the others have failed first, and returns those that have.
func (c *cluster) stopped() (failed []*node) {
	c.t.Helper()
	testkit.Eventually(c.t, "the replicas have stopped", func() bool {
		failed = slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n.State() != replica.Failed })
		return len(failed) >= len(c.nodes)-1
	})
	return failed
}

// A replica that meets what it does not understand stops there, says so, and goes on
// from there when its node is upgraded.
func TestRaftGoesOnBehindANewerEntryAfterAnUpgrade(t *testing.T) {
	c := newCluster(t, 3)
	c.wantFormat(command.NewestFormat)
	index := c.put("k", "v")
	for _, n := range c.nodes {
		n.wantAt(index, "k", "v")
	}
	upgrade := command.Forget(command.Tick)
	defer upgrade()
	owner := c.owner()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := owner.Propose(ctx, &command.Command{Kind: command.Tick}); kv.OutcomeOf(err) != kv.Unknown {
		t.Errorf("proposed what is not understood here: %v", err)
	}
	for _, n := range c.nodes {
		n.wantAt(index, "k", "v") // what they have is still read
	}
	for range 2 { // also when the older release is started again
		for _, n := range c.stopped() {
			s := n.Status()
			if !errors.Is(s.Err, command.ErrNewer) || !strings.Contains(s.ReadOnly, "upgrade this node") || strings.Contains(s.ReadOnly, "storage") {
				t.Errorf("node %d says %q, %v", n.id, s.ReadOnly, s.Err)
			}
		}
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.start()
		}
	}
	c.stopped()
	for _, n := range c.nodes {
		n.kill()
	}
	upgrade()
	for _, n := range c.nodes {
		n.start()
	}
	index = c.put("k", "w")
	for _, n := range c.nodes {
		n.wantAt(index, "k", "w")
		if got := n.Stats().SnapshotsReceived; got != 0 {
			t.Errorf("node %d has received %d snapshots", n.id, got)
		}
	}
}

// A replica stops where the log's format rises above what its release understands.
func TestRaftStopsWhereTheFormatRises(t *testing.T) {
	formats := map[uint64]uint32{1: 2, 2: 2, 3: 1}
	c := newCluster(t, 3, of(formats))
	c.announced(3)
	n := c.nodes[2]
	c.lead(c.nodes[0]) // one that understands it, so that the change can be acknowledged
	c.raise(2)
	for range 2 {
		testkit.Eventually(t, "the replica has stopped", func() bool { return n.State() == replica.Failed })
		if err := n.Status().Err; !errors.Is(err, command.ErrNewer) {
			t.Errorf("it has stopped for %v", err)
		}
		n.kill() // its state is an earlier one when it is started again
		n.start()
	}
	n.kill()
	formats[3] = 2
	n.start()
	n.wantAt(c.put("k", "v"), "k", "v")
}

// raise raises the log's format as an owner does that has overlooked a member.
func (c *cluster) raise(format int64) {
	c.t.Helper()
	owner := c.owner()
	epoch, err := owner.keeper.Epoch(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	set := &command.Command{Kind: command.SetFormat, Delta: format, Fence: epoch}
	if _, err := owner.append(c.t.Context(), set, patience); err != nil {
		c.t.Fatal(err)
	}
}

// A member that was away while the log was raised, and cut, is not given a state that
// it does not understand.
func TestRaftRefusesASnapshotOfANewerFormat(t *testing.T) {
	formats := map[uint64]uint32{1: 2, 2: 2, 3: 1}
	c := newCluster(t, 3, func(c *cluster) {
		of(formats)(c)
		c.every, c.keep = 20, 1
	})
	c.announced(3)
	n := c.nodes[2]
	n.kill()
	c.raise(2)
	var index kv.Index
	for i := range 100 {
		index = c.put(fmt.Sprint("k", i), "v")
	}
	n.start()
	testkit.Eventually(t, "the replica has stopped", func() bool { return n.State() == replica.Failed })
	if err := n.Status().Err; !errors.Is(err, command.ErrNewer) {
		t.Errorf("it has stopped for %v", err)
	}
	n.kill()
	formats[3] = 2
	n.start()
	n.wantAt(index, "k99", "v")
}

// A log whose format cannot state a lease has an owner all the same: its leases are no
// longer than the next owner will wait.
func TestRaftLeasesAreShortWhereTheLogCannotStateThem(t *testing.T) {
	long := fastTiming
	long.Lease = 2 * command.UnstatedLease
	c := newCluster(t, 1, of(map[uint64]uint32{1: command.FirstFormat}), func(c *cluster) { c.timing = map[uint64]timing.Timing{1: long} })
	c.put("k", "v")
	owner := c.owner()
	testkit.Eventually(t, "a lease", func() bool { c.want("k", "v"); return owner.keeper.Held() })
	if left := owner.keeper.Stats().Remaining; left > command.UnstatedLease {
		t.Errorf("a lease of %v runs, and the next owner would wait for %v", left, command.UnstatedLease)
	}
}
