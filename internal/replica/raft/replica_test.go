package raft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/fsm/offline"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

func TestRaftReplicates(t *testing.T) {
	c := newCluster(t, 3)
	var last kv.Index
	for i := range 50 {
		last = c.put(fmt.Sprint("k", i), "v")
	}
	c.want("k49", "v")
	for _, n := range c.nodes {
		n.wantAt(last, "k0", "v")
		if got, want := n.Status().Identity, c.owner().Status().Identity; got != want || got.Cluster == "" {
			t.Errorf("member %d is of %+v, the owner of %+v", n.id, got, want)
		}
	}
	f := c.follower()
	_, err := f.Propose(context.Background(), replicatest.Put("a", "b"))
	replicatest.WantError(t, err, kv.NotOwner, kv.NotApplied)
	_, _, _, err = f.Get(context.Background(), []byte("a"), kv.ReadOptions{Level: kv.Linearizable})
	replicatest.WantError(t, err, kv.NotOwner, kv.NotApplied)
	testkit.Eventually(t, "the owner's address", func() bool {
		return f.Owner().Address == fmt.Sprint("grpc-", c.owner().id)
	})
}

// Whichever node is killed, acknowledged writes stay, and the others continue.
func TestRaftSurvivesItsLeaders(t *testing.T) {
	c := newCluster(t, 3)
	for round := range 3 {
		key := fmt.Sprint("round", round)
		c.put(key, "v")
		killed := c.owner()
		killed.kill()
		c.want(key, "v")
		index := c.put(key+"b", "w")
		killed.start()
		killed.wantAt(index, key, "v")
		killed.wantAt(index, key+"b", "w")
	}
}

func TestRaftStandsStillWithoutMajority(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	owner := c.owner()
	owner.wantAt(index, "k", "v")
	for _, n := range c.nodes {
		if n != owner {
			n.kill()
		}
	}
	testkit.Timely(t, func() error {
		begun := time.Now()
		if _, err := owner.Propose(testkit.Within(t, 500*time.Millisecond), replicatest.Put("k", "w")); err == nil {
			t.Error("a write was acknowledged without a majority")
		}
		if took := time.Since(begun); took > time.Second {
			return fmt.Errorf("the write came back after %v", took)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, _, _, err := owner.Get(ctx, []byte("k"), kv.ReadOptions{Level: kv.Linearizable})
	if k := kv.KindOf(err); err == nil || k != kv.Unavailable && k != kv.NotOwner {
		t.Errorf("a linearizable read without a majority: %v", err)
	}
	owner.wantAt(index, "k", "v") // sequential reads go on
	for _, n := range c.nodes {
		if n != owner {
			n.start()
		}
	}
	c.put("k2", "v2")
	c.want("k2", "v2")
}

// What members could not send each other is not proposed: nothing behind it would be committed.
func TestRaftRejectsWhatCannotBeSent(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.maxInMemory = 256 << 20 })
	c.put("k", "v")
	large := replicatest.Put("k", strings.Repeat("x", host.LargestEntry))
	_, err := c.owner().Propose(t.Context(), large)
	replicatest.WantError(t, err, kv.Invalid, kv.NotApplied)
	c.want("k", "v")
}

func TestRaftTransfer(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	owner, target := c.owner(), c.follower()
	begun := time.Now()
	// A target that is busy for as long as an election takes is passed over.
	testkit.Eventually(t, "the target takes over", func() bool {
		err := owner.TransferLeader(context.Background(), target.id)
		if err != nil {
			t.Log(err)
		}
		return err == nil || target.Owner().Self
	})
	testkit.Eventually(t, "the target owns the log", func() bool { return target.keeper.Stats().Epoch != 0 })
	t.Logf("a transfer took %v", time.Since(begun))
	if n := target.keeper.Stats().WaitOuts; n != 0 {
		t.Errorf("after a hand-over %d leases were waited out", n)
	}
	c.want("k", "v")
	replicatest.WantError(t, owner.TransferLeader(context.Background(), 0), kv.Precondition, kv.NotApplied)
}

func TestRaftShutdownHandsOver(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	c.owner().shutdown()
	next := c.owner()
	if n := next.keeper.Stats().WaitOuts; n != 0 {
		t.Errorf("after a planned stop %d leases were waited out", n)
	}
	c.want("k", "v")
}

// TestRaftLeavesWhileRequestsAreAnswered: what a node has begun may take long to answer, and nothing
// can be written there meanwhile. A restore is not ended by that.
func TestRaftLeavesWhileRequestsAreAnswered(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	stopping := c.owner()
	stopping.Leave()
	testkit.Eventually(t, "another member leads", func() bool {
		id, _ := stopping.leads()
		return id != 0 && id != stopping.id
	})
	c.put("k", "w")
	select {
	case <-stopping.ran:
		t.Error("it has stopped")
	default:
	}
	stopping.shutdown()
	c.want("k", "w")

	kept := false
	for range 2 { // a busy machine may take a leader away by itself
		restoring := c.owner()
		restoring.restores.Add(1)
		restoring.Leave()
		time.Sleep(leaveGrace * 5 / 4)
		id, _ := restoring.leads()
		kept = kept || id == restoring.id
		restoring.restores.Add(-1)
	}
	if !kept {
		t.Error("another member leads in the middle of a restore")
	}
}

// TestRaftHandsOverAgainWhileItStops: a member that is handed the log while it stops gives it on,
// rather than have the others miss it.
func TestRaftHandsOverAgainWhileItStops(t *testing.T) {
	slow := fastTiming
	slow.Election = 100 // a stop takes longer, too
	c := newCluster(t, 3, func(c *cluster) { c.timing = map[uint64]timing.Timing{1: slow, 2: slow, 3: slow} })
	tried, missing := 0, 0
	testkit.Eventually(t, "members that stop are handed the log", func() bool {
		c.put("k", "v")
		stopping := c.owner()
		stopping.stop()
		handed := false
		for ended := false; !ended && !handed; {
			if next := c.owner(); next != stopping {
				handed = next.TransferLeader(context.Background(), stopping.id) == nil
			}
			select {
			case <-stopping.ran:
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		<-stopping.ran
		missed := slices.ContainsFunc(c.nodes, func(n *node) bool {
			leader, _ := n.leads()
			return n != stopping && leader == stopping.id
		})
		stopping.kill()
		stopping.start()
		if handed {
			tried++
		}
		if handed && missed {
			missing++
		}
		return tried == 3
	})
	if missing > 1 { // one may be handed the log in its last moment
		t.Errorf("%d of %d members stopped as leaders of others", missing, tried)
	}
	c.want("k", "v")
}

// A member that was away for longer than the log is kept gets a snapshot, which
// replaces its state under its readers.
func TestRaftCatchesUpBySnapshot(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.every, c.keep = 50, 5 })
	index := c.put("old", "v")
	away := c.follower()
	away.wantAt(index, "old", "v")
	if err := away.Snapshot(t.Context()); err != nil { // it has that after a crash
		t.Fatal(err)
	}
	away.kill()
	for i := range 300 {
		index = c.put(fmt.Sprint("k", i), "v")
	}
	away.start()
	view, _, err := away.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	away.wantAt(index, "k299", "v")
	testkit.Eventually(t, "a snapshot is counted", func() bool { return away.Stats().SnapshotsReceived > 0 })
	if got := replicatest.Keys(t, view); len(got) > 2 {
		t.Errorf("a view from before has %d keys", len(got))
	}
	view.Close()
	away.kill()
	away.start()
	away.wantAt(index, "k299", "v")
}

func TestRaftConfirmedReads(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.confirm = true })
	c.put("k", "v")
	for range 20 {
		c.want("k", "v")
	}
	if s := c.owner().Stats(); s.LeaseReads != 0 || s.Confirmed < 20 {
		t.Errorf("reads under a lease that is off: %+v", s.Stats)
	}
}

func TestRaftGrowsAndShrinks(t *testing.T) {
	c := newCluster(t, 1)
	index := c.put("k", "v")
	for id := uint64(2); id <= 3; id++ {
		n := c.add(id, true)
		ctx := context.Background()
		c.reconfigure("added", func(owner *node, m replica.Membership) error {
			if got := m.NextID(); got != id {
				t.Fatalf("the next id is %d, want %d", got, id)
			}
			return owner.Add(ctx, id, n.addr, m.Version)
		})
		n.start()
		n.wantAt(index, "k", "v")
		c.reconfigure("promoted", func(owner *node, m replica.Membership) error { return owner.Promote(ctx, id, n.addr, m.Version) })
	}
	gone := c.follower()
	c.reconfigure("removed", func(owner *node, m replica.Membership) error {
		if m.Voters() != 3 {
			t.Fatalf("members %+v", m)
		}
		return owner.Remove(context.Background(), gone.id, m.Version)
	})
	gone.MarkRemoved() // as its node does when the others have told it
	testkit.Eventually(t, "the removed member says so", func() bool { return gone.State() == replica.Removed })
	_, _, _, err := gone.Get(context.Background(), []byte("k"), kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	c.put("k", "w")
	c.want("k", "w")
}

// A member that is removed while its node still answers earlier requests says so.
func TestRaftRemovedWhileItStops(t *testing.T) {
	gone := newCluster(t, 3).follower()
	gone.Leave()
	gone.MarkRemoved()
	testkit.Eventually(t, "the removed member says so", func() bool { return gone.State() == replica.Removed })
}

// A member that was added says nothing about keys before it has any of the log.
func TestRaftAddedMemberHasNothingToRead(t *testing.T) {
	c := newCluster(t, 1)
	index := c.put("k", "v")
	joined := c.add(2, true)
	joined.start()
	<-joined.Served()
	_, _, _, err := joined.Get(t.Context(), []byte("k"), kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if joined.Readable() {
		t.Error("a member without a state is readable")
	}
	joined.fail(errTestFull)
	testkit.Eventually(t, "it has room again", func() bool { return joined.State() == replica.Serving })
	if joined.Readable() {
		t.Error("a member whose storage was reopened without a state is readable")
	}
	c.reconfigure("added", func(owner *node, m replica.Membership) error {
		return owner.Add(t.Context(), joined.id, joined.addr, m.Version)
	})
	testkit.Eventually(t, "it can be read", joined.Readable)
	joined.wantAt(index, "k", "v")
}

// Nor does a first member, without a majority: the others may have formed the cluster long ago.
func TestRaftFirstMemberHasNothingToRead(t *testing.T) {
	c := newCluster(t, 0)
	for id := uint64(1); id <= 3; id++ {
		c.members[id] = c.add(id, false).addr
	}
	late := c.nodes[2]
	late.start()
	<-late.Served()
	_, _, _, err := late.Get(t.Context(), []byte("k"), kv.ReadOptions{})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	for _, n := range c.nodes[:2] {
		n.start()
	}
	index := c.put("k", "v")
	testkit.Eventually(t, "it can be read", late.Readable)
	late.wantAt(index, "k", "v")
}

// A disk that fails takes one member out, and nothing that was acknowledged.
func TestRaftStorageFailure(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.every, c.keep = 20, 5 })
	c.put("k", "v")
	bad := c.owner()
	broken := errors.New("input/output error")
	bad.fault.Store(&broken)
	if err := bad.Snapshot(context.Background()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return bad.State() == replica.Failed })
	// Here only what is read as it is.
	_, err := bad.Propose(context.Background(), replicatest.Put("k", "x"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	_, _, _, err = bad.Get(context.Background(), []byte("k"), kv.ReadOptions{Level: kv.Linearizable})
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	bad.wantAt(1, "k", "v")
	c.want("k", "v")
	c.put("k", "w")
	c.want("k", "w")
}

// A full disk is waited out.
func TestRaftComesBackFromAFullDisk(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	full := c.follower()
	full.wantAt(index, "k", "v")
	err := fmt.Errorf("write: %w", storage.ErrNoSpace)
	full.fault.Store(&err)
	if err := full.Snapshot(context.Background()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return full.State() == replica.Failed })
	index = c.put("k", "w")
	full.fault.Store(nil)
	testkit.Eventually(t, "the replica is back", func() bool { return full.State() == replica.Serving })
	full.wantAt(index, "k", "w")
	// And it counts: with it alone there is a majority.
	for _, n := range c.nodes {
		if n != full && n != c.owner() {
			n.kill()
			break
		}
	}
	c.put("k", "x")
}

// A state that was put back from an old copy has lost what the log no longer has.
func TestRaftRefusesAnOldState(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 20, 5 })
	c.put("k", "v")
	n := c.owner()
	n.kill()
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(filepath.Join(n.path, "db"))); err != nil {
		t.Fatal(err)
	}
	n.start()
	for i := range 100 {
		c.put(fmt.Sprint("k", i), "v")
	}
	if err := n.Snapshot(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.kill()
	if err := errors.Join(os.RemoveAll(filepath.Join(n.path, "db")), os.CopyFS(filepath.Join(n.path, "db"), os.DirFS(old))); err != nil {
		t.Fatal(err)
	}
	err := n.open()
	if err == nil || !strings.Contains(err.Error(), "it is an old copy") {
		t.Errorf("an old state was opened: %v", err)
	}
	n.Replica = nil
	if err := n.host.Close(); err != nil {
		t.Error(err)
	}
}

// A standalone node's state continues in a Raft log, and a new member gets it.
func TestRaftGoesOnFromAStandaloneState(t *testing.T) {
	c := newCluster(t, 0)
	first := c.add(1, false)
	c.members[1] = first.addr
	generations := first.generations()
	local := replicatest.OpenNode(t, func(r *replicatest.Rig) { r.Opts.Generations = generations })
	local.Start(t.Context())
	for i := range 40 {
		local.MustPut(fmt.Sprint("old", i), "v")
	}
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	engine, err := first.openEngine(generations.Current())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(offline.Continue(engine), engine.Sync(), engine.Close()); err != nil {
		t.Fatal(err)
	}
	first.start()
	if index := c.put("new", "v"); index <= 40 {
		t.Errorf("the indexes begin again at %d", index)
	}
	c.want("old0", "v")
	joined := c.add(2, true)
	m, err := first.Membership(t.Context())
	if err == nil {
		err = first.Add(t.Context(), 2, joined.addr, m.Version)
	}
	if err != nil {
		t.Fatal(err)
	}
	joined.start()
	index := c.put("newer", "v")
	joined.wantAt(index, "old0", "v")
	joined.wantAt(index, "new", "v")
	// The members still announce themselves: both are the same when that has ended.
	testkit.Eventually(t, "both are at one index", func() bool { return joined.Status().Applied == first.Status().Applied })
	if got, want := joined.Status().Identity, first.Status().Identity; got != want {
		t.Errorf("joined as %+v, the first is %+v", got, want)
	}
}
