package raft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

var errTestFull = fmt.Errorf("write: %w", storage.ErrNoSpace)

// failBeforeItStops does what fail does first, for a reason that is not the
// engine's own: the replica's part in the log ends later, in another goroutine.
func (n *node) failBeforeItStops() { n.state.Become(replica.Failed, errTestFull, replica.Serving) }

// passOver commits entries that a failed replica does not apply.
func (n *node) passOver(count int) {
	n.c.t.Helper()
	epoch := n.state.Machine().Epoch().ID
	for i := range count {
		w := replicatest.Put(fmt.Sprint("passed-over", i), "v")
		w.Fence = epoch
		_, err := n.append(context.Background(), w, patience)
		if kv.OutcomeOf(err) != kv.Unknown {
			n.c.t.Fatalf("an entry of a failed replica: %v", err)
		}
	}
}

// cutAt asks the log's library to cut the log here, and returns where it did; 0 if it
// did not.
func (n *node) cutAt() uint64 {
	n.c.t.Helper()
	nh, done, err := n.host.Borrow()
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer done()
	rs, err := nh.RequestSnapshot(1, dragonboat.SnapshotOption{OverrideCompactionOverhead: true}, patience)
	if err != nil {
		n.c.t.Fatal(err)
	}
	res := <-rs.ResultC()
	if !res.Completed() {
		return 0
	}
	return res.SnapshotIndex()
}

// Between the failure of a replica and its stop the log goes on without it. Nothing
// durable may come of the entries that it has passed over: no snapshot is taken, none
// is sent, the log is not cut, and a restart applies them.
func TestRaftFailedReplicaClaimsNothing(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 1<<40, 1 })
	for i := range 10 {
		c.put(fmt.Sprint("k", i), "v")
	}
	n := c.owner()
	applier := n.applier.Load()
	sent, err := applier.PrepareSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	n.failBeforeItStops()
	n.passOver(5)
	late, err := applier.PrepareSnapshot()
	if err != nil {
		t.Errorf("an error leaves the stream to a follower open: %v", err)
	}
	for _, prepared := range []any{sent, late} {
		if err := applier.SaveSnapshot(prepared, io.Discard, nil); !errors.Is(err, statemachine.ErrSnapshotAborted) {
			t.Errorf("a snapshot is sent to a follower: %v", err)
		}
	}
	if err := n.Snapshot(context.Background()); kv.KindOf(err) != kv.Exhausted {
		t.Errorf("asked to cut its log, it says %v", err)
	}
	if at := n.cutAt(); at != 0 {
		t.Fatalf("the log was cut at %d, the state is at %d", at, n.state.Machine().Applied())
	}
	n.kill()
	n.start()
	c.want("passed-over4", "v")
}

// A failed replica does not come back to life by its standing alone: what the log's
// library still gives to the part of it that has failed is not applied.
func TestRaftFailureIsFinal(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	n.failBeforeItStops()
	n.passOver(1)
	n.state.Become(replica.Serving, nil, replica.Failed)
	n.passOver(1)
	if _, found, _, err := n.Get(t.Context(), []byte("passed-over0"), kv.ReadOptions{}); found || err != nil {
		t.Errorf("an entry was applied behind one that was passed over: %v, %v", found, err)
	}
	n.kill()
	n.start()
	c.want("passed-over0", "v")
}

// That the log's library has passed an index tells nothing about a state that has
// passed entries over.
func TestRaftFailedReplicaConfirmsNoRead(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	f := c.follower()
	f.wantAt(index, "k", "v")
	f.failBeforeItStops()
	c.put("k", "w")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := (group{f.Replica}).ReadIndex(ctx); err == nil {
		t.Error("a failed replica's state was taken for the newest")
	}
	_, _, _, err := f.Get(ctx, []byte("k"), kv.ReadOptions{MaxAge: time.Nanosecond})
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
}

// A follower whose disk is full while it gets a snapshot, be it at its start or when it
// comes back, is served by what it had, and goes on by itself once there is room.
func TestRaftComesBackFromAFullDiskInASnapshot(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.every, c.keep = 50, 5 })
	index := c.put("old", "v")
	away := c.follower()
	away.wantAt(index, "old", "v")
	away.kill()
	for i := range 300 {
		index = c.put(fmt.Sprint("k", i), "v")
	}
	var attempts atomic.Int64
	full := func(dir string) error {
		if filepath.Base(dir) == "gen-000001" {
			return nil
		}
		attempts.Add(1)
		return errTestFull
	}
	away.openFault.Store(&full)
	away.start()
	testkit.Eventually(t, "the replica has failed", func() bool { return away.State() == replica.Failed })
	testkit.Eventually(t, "it has failed again, coming back", func() bool { return attempts.Load() > 1 })
	away.openFault.Store(nil)
	testkit.Eventually(t, "the replica is back", func() bool { return away.State() == replica.Serving })
	away.wantAt(index, "k299", "v")
}

// A replica closes while a snapshot keeps it from starting.
func TestRaftClosesWhileItIsStarting(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.every, c.keep = 50, 5 })
	away := c.follower()
	away.kill()
	for i := range 300 {
		c.put(fmt.Sprint("k", i), "v")
	}
	broken := func(dir string) error {
		if filepath.Base(dir) == "gen-000001" {
			return nil
		}
		return errTestBroken
	}
	away.openFault.Store(&broken)
	away.start()
	testkit.Eventually(t, "the replica has failed", func() bool { return away.State() == replica.Failed })
	away.kill()

	// Its log begins with that snapshot now.
	opening, release := make(chan struct{}), make(chan struct{})
	stuck := func(dir string) error {
		if filepath.Base(dir) != "gen-000001" {
			close(opening)
			<-release
			return errTestBroken
		}
		return nil
	}
	away.openFault.Store(&stuck)
	away.start()
	<-opening
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := away.Replica.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-away.state.Closing()
	close(release)
	<-closed
	<-away.ran
}

var errTestBroken = errors.New("input/output error")

// Where the state cannot be synced the log is not cut. This hangs on how the log's
// library asks for a sync, which no part of its interface tells: see calledBy.
func TestRaftLogIsNotCutWhereTheStateIsNotSynced(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 1<<40, 1 })
	for i := range 10 {
		c.put(fmt.Sprint("k", i), "v")
	}
	n := c.owner()
	if n.cutAt() == 0 {
		t.Fatal("the log is not cut at all")
	}
	log := n.applier.Load().log
	testkit.Eventually(t, "the log is cut", func() bool { first, _ := log.GetRange(); return first > 1 })
	before, _ := log.GetRange()
	c.put("k", "v")
	broken := errTestBroken
	n.fault.Store(&broken)
	if at := n.cutAt(); at != 0 {
		t.Errorf("the log was cut at %d, though the sync failed", at)
	}
	if after, _ := log.GetRange(); after != before {
		t.Errorf("the log begins at %d, and began at %d", after, before)
	}
	n.fault.Store(nil)
	n.kill()
	n.start()
	c.want("k", "v")
}

// The same where the log is several nodes'.
func TestRaftComesBackUnderAStalledRead(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) {
		c.options = func(_ *node, o *Options) { o.ViewPatience = time.Nanosecond }
	})
	index := c.put("k", "v")
	full := c.follower()
	full.wantAt(index, "k", "v")
	view, _, err := full.View(t.Context(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	full.fault.Store(&errTestFull)
	if err := full.Snapshot(t.Context()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return full.State() == replica.Failed })
	full.fault.Store(nil)
	testkit.Eventually(t, "the replica is back", func() bool { return full.State() == replica.Serving })
	index = c.put("k", "w")
	full.wantAt(index, "k", "w")
	if _, err := view.MultiGet([][]byte{[]byte("k")}); err == nil {
		t.Error("the view goes on")
	}
}

// A read that waits for storage to be reopened does not show the earlier state that is found
// then.
func TestRaftReadMeetsAReopenedState(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	n := c.follower()
	n.wantAt(index, "k", "v")
	old := n.state.Machine()
	n.confirmed(n.clock.Now())
	n.fault.Store(&errTestFull)
	if err := n.Snapshot(t.Context()); err == nil {
		t.Error("a snapshot of a state that cannot be synced")
	}
	testkit.Eventually(t, "the replica has failed", func() bool { return n.State() == replica.Failed })
	reads, reopened, done := make(chan *fsm.Machine, 2), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := n.read(testkit.Within(t, patience), kv.ReadOptions{MinIndex: index}, func(m *fsm.Machine) error {
			reads <- m
			<-reopened
			if m == old {
				return fsm.ErrClosed
			}
			return nil
		})
		done <- err
	}()
	<-reads
	defer n.holdWrites()() // it stays at the earlier state
	n.fault.Store(nil)
	testkit.Eventually(t, "the state is reopened", func() bool { return n.state.Machine() != old })
	close(reopened)
	replicatest.WantError(t, <-done, kv.Unavailable, kv.NotApplied)
	if m := <-reads; m.Applied() >= index {
		t.Errorf("it was reopened at %d; the test wants what is lost in a crash", m.Applied())
	}
	if age := n.Age(); age != replica.NeverFresh {
		t.Errorf("the earlier state is %v old", age)
	}
}

// A member that fails right after its first state has come can be read with what is on the disk
// then: nothing may come after that.
func TestRaftFirstStateThatIsFoundAgain(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("k", "v")
	n := c.follower()
	n.wantAt(index, "k", "v")
	if err := n.Snapshot(t.Context()); err != nil { // it has that when it is reopened
		t.Fatal(err)
	}
	n.empty.Store(true) // as before the state had come
	n.failBeforeItStops()
	if again, err := n.reopenFailed(); err != nil || !again {
		t.Fatal(again, err)
	}
	if err := n.Status().Unreadable; err != nil {
		t.Errorf("it waits for another entry of the log: %v", err)
	}
}
