package raft

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A backup of one cluster, restored into another and in place, replaces the
// keyspace of all members at one index, under one new history.
func TestRaftRestore(t *testing.T) {
	source := newCluster(t, 1)
	for i := range 3000 {
		if i%500 == 0 {
			source.put(fmt.Sprint("k", i), "v")
		}
	}
	expiring := replicatest.Put("e", "x")
	expiring.Mutations[0].ExpireTS = uint64(time.Now().Add(time.Hour).Unix())
	source.atOwner("an expiring key", func(owner *node) error { _, err := owner.Propose(context.Background(), expiring); return err })
	for range 100 {
		source.put("k0", "w")
	}
	at := source.owner().Status().Applied
	dir := filepath.Join(t.TempDir(), "backup")
	if err := source.owner().Backup(context.Background(), dir); err != nil {
		t.Fatal(err)
	}

	c := newCluster(t, 3)
	c.put("gone", "v")
	before := c.owner().Status()
	replicatest.WantError(t, c.follower().Restore(context.Background(), dir), kv.NotOwner, kv.NotApplied)
	away := c.follower()
	away.kill()
	c.restore(dir)
	c.want("gone", "")
	c.want("k0", "w")
	c.want("k2500", "v")
	c.want("e", "x")
	after := c.owner().Status()
	if after.Identity.Cluster != before.Identity.Cluster || after.Identity.History == before.Identity.History {
		t.Errorf("restored %+v over %+v", after.Identity, before.Identity)
	}
	if after.Applied <= at || after.ChangelogFloor <= at {
		t.Errorf("applied %d, floor %d; the backup was at %d", after.Applied, after.ChangelogFloor, at)
	}
	index := c.put("new", "v")
	away.start()
	for _, n := range c.nodes {
		n.wantAt(index, "k2500", "v")
		n.wantAt(index, "gone", "")
		if got := n.Status().Identity; got != after.Identity {
			t.Errorf("member %d is of %+v, want %+v", n.id, got, after.Identity)
		}
	}
	// All that are restarted find the same.
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		n.start()
	}
	index = c.put("new2", "v")
	for _, n := range c.nodes {
		n.wantAt(index, "new", "v")
	}
}

// A restore of promoted masters begins a history of their era: by a lesser one they would count
// as the masters that the promotion has replaced.
func TestRaftRestoreKeepsTheEra(t *testing.T) {
	state := promotedState(t, fsm.Identity{Cluster: "c", History: "old"}, "v")
	c := newCluster(t, 1, beginsWith(func(uint64) storage.Engine { return state }))
	c.put("k", "w")
	dir := filepath.Join(t.TempDir(), "backup")
	if err := c.owner().Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c.restore(dir)
	if h := c.owner().Status().Identity.History; era.Of(h) != 1 || h == "1-new" {
		t.Errorf("the history %s follows 1-new", h)
	}
}

// A restore that copies its backup, or waits for another one, has not reached the log yet; its leader
// must not be moved away then either.
func TestRestoringFromTheBegin(t *testing.T) {
	n := newCluster(t, 1).owner()
	unlock, err := n.state.LockCopy(t.Context())
	if err != nil || n.Restoring() {
		t.Fatalf("restoring: %v, %v", n.Restoring(), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- n.Restore(t.Context(), filepath.Join(t.TempDir(), "none")) }()
	testkit.Eventually(t, "the restore is under way", n.Restoring)
	unlock()
	if err := <-ended; kv.KindOf(err) != kv.NotFound || n.Restoring() {
		t.Errorf("restoring: %v, %v", n.Restoring(), err)
	}
}

// While a restore is staged, mutations are refused; a new owner drops it.
func TestRaftRestoreIsDroppedByTheNextOwner(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	owner := c.owner()
	ctx := context.Background()
	epoch, err := owner.keeper.Epoch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := owner.step(ctx, epoch, &command.Command{Kind: command.BeginRestore, Expect: []byte("id")}); err != nil {
		t.Fatal(err)
	}
	if !owner.Status().Restoring {
		t.Error("the status does not say that a restore is under way")
	}
	stage := replicatest.Put("staged", "x")
	stage.Kind, stage.Expect = command.StageRestore, []byte("id")
	if _, err := owner.step(ctx, epoch, stage); err != nil {
		t.Fatal(err)
	}
	_, err = owner.Propose(ctx, replicatest.Put("k", "w"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	c.want("k", "v")
	end := &command.Command{Kind: command.EndRestore, Expect: []byte("id"), Restored: &command.Restored{Pairs: 2, History: "h"}}
	if _, err := owner.step(ctx, epoch, end); err == nil {
		t.Error("a restore ended with pairs missing")
	}
	owner.kill()
	c.put("k", "w")
	c.want("k", "w")
	c.want("staged", "")
	if c.owner().state.Machine().Restoring() {
		t.Error("the restore goes on under a new owner")
	}
}

// A pair that was just small enough for the log is restored alone, and not behind others.
func TestRaftRestoreOfALargePair(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.maxInMemory = 3 << 20 })
	large := strings.Repeat("x", 5<<19)
	c.put("a", strings.Repeat("y", stageBytes-1000))
	c.put("b", large)
	dir := filepath.Join(t.TempDir(), "backup")
	if err := c.owner().Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c.put("b", "v")
	c.restore(dir)
	c.want("b", large)
}

// A restore that is cut short while the log takes nothing is aborted when it does again:
// until then mutations are refused, and the epoch may last for ever.
func TestRaftRestoreIsAbortedInTheEnd(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.timeout, c.maxInMemory = 200*time.Millisecond, 256<<10 })
	c.put("k", "v")
	n := c.owner()
	epoch, err := n.keeper.Epoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release, before := n.holdWrites(), n.state.Machine().Applied()
	begin := &command.Command{Kind: command.BeginRestore, Expect: []byte("id"), Fence: epoch}
	if _, err := n.append(t.Context(), begin, n.raft.Timeout); err == nil {
		t.Fatal("a command was applied though writes are held up")
	}
	// What waits to be applied fills the log's memory.
	testkit.Eventually(t, "the log takes nothing", func() bool {
		w := replicatest.Put("filler", strings.Repeat("x", 100<<10))
		w.Fence = epoch
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := n.append(ctx, w, n.raft.Timeout)
		return kv.KindOf(err) == kv.Exhausted
	})
	n.abort(epoch, []byte("id"))
	release()
	testkit.Eventually(t, "the restore has begun", func() bool { return n.state.Machine().Applied() > before })
	testkit.Eventually(t, "mutations are taken again", func() bool { return !n.state.Machine().Restoring() })
	if got := n.state.Machine().Epoch().ID; got != epoch {
		t.Fatalf("the epoch is %d and was %d: that has ended the restore", got, epoch)
	}
	c.put("k", "w")
	c.want("k", "w")
}

// A retry of a request that was acknowledged before a restore is answered with its
// first result, by whichever member owns the log then.
func TestRaftRestoreKeepsRequests(t *testing.T) {
	c := newCluster(t, 3)
	c.put("old", "v")
	dir := filepath.Join(t.TempDir(), "backup")
	if err := c.owner().Backup(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	request := func() *command.Command {
		return &command.Command{
			Kind: command.Increment, Delta: 1, Request: kv.RequestID{Client: 7, Sequence: 1},
			Mutations: []kv.Mutation{{Key: []byte("n")}},
		}
	}
	send := func() (res command.Result) {
		t.Helper()
		// Whatever became of it, it may be sent again: it has an id.
		testkit.Eventually(t, "an increment", func() (done bool) {
			var err error
			res, err = c.owner().Propose(t.Context(), request())
			return err == nil
		})
		return res
	}
	first := send()
	c.restore(dir)
	retry := func() {
		t.Helper()
		if again := send(); again != first {
			t.Errorf("a retry came to %+v; the first attempt to %+v", again, first)
		}
	}
	retry()
	c.owner().kill()
	retry()
	c.want("n", "")
}
