package raft

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// backedUp returns a backup of another cluster, with so many keys.
func backedUp(t *testing.T, keys int) string {
	t.Helper()
	source := newCluster(t, 1)
	w := &command.Command{Kind: command.Write}
	for i := range keys {
		w.Mutations = append(w.Mutations, replicatest.Put(fmt.Sprint("restored", i), "v").Mutations...)
	}
	if _, err := source.owner().Propose(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	if err := source.owner().Backup(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// holdBuild makes the opening of an engine for another generation than the first wait
// until release is called or the test ends. building says how many wait.
func (n *node) holdBuild() (building *atomic.Int64, release func()) {
	gate := make(chan struct{})
	building = new(atomic.Int64)
	first := filepath.Base(n.opts.Generations.Current())
	hold := func(dir string) error {
		if filepath.Base(dir) != first {
			building.Add(1)
			defer building.Add(-1)
			<-gate
		}
		return nil
	}
	n.openFault.Store(&hold)
	release = sync.OnceFunc(func() { n.openFault.Store(nil); close(gate) })
	n.c.t.Cleanup(release)
	return building, release
}

// folders are those of the node's states.
func (n *node) folders() []string {
	n.c.t.Helper()
	out, err := filepath.Glob(filepath.Join(filepath.Dir(n.opts.Generations.Current()), "gen-*"))
	if err != nil {
		n.c.t.Fatal(err)
	}
	return out
}

// restoring restores a backup beside the test.
func (n *node) restoring(t *testing.T, dir string) (done chan error) {
	done = make(chan error, 1)
	raft := n.Replica
	go func() { done <- raft.Restore(t.Context(), dir) }()
	return done
}

// Who waits for a restore that another owner has dropped has not cancelled it.
func TestRaftRestoreSaysThatItIsDropped(t *testing.T) {
	dir := backedUp(t, 100)
	c := newCluster(t, 3)
	c.put("k", "old")
	n := c.owner()
	building, release := n.holdBuild()
	done := n.restoring(t, dir)
	testkit.Eventually(t, "the state is being built", func() bool { return building.Load() > 0 })
	for _, other := range c.nodes {
		if other != n {
			c.lead(other)
			break
		}
	}
	testkit.Eventually(t, "what was staged is dropped here", func() bool { return !n.state.Machine().Restoring() })
	release()
	err := <-done
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	if errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "another owner") {
		t.Errorf("%v; want that the log got another owner", err)
	}
	c.want("k", "old")
}

// While the state is built that a restore ends with, the vBucket's log goes on, and so do
// other vBuckets.
func TestRaftRestoreBuildsAside(t *testing.T) {
	dir := backedUp(t, 100)
	c := newCluster(t, 1)
	c.put("k", "old")
	n := c.owner()
	other := n.addVBucket(2)
	building, release := n.holdBuild()
	done := n.restoring(t, dir)
	testkit.Eventually(t, "the state is being built", func() bool { return building.Load() == 1 })
	for i := range 20 {
		if _, err := other.Propose(t.Context(), replicatest.Put("k", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if err := n.SetMember(t.Context(), 9, replica.Member{Name: fmt.Sprint("m", i)}); err != nil {
			t.Fatal("a command of the vBucket that is restored:", err)
		}
	}
	c.want("k", "old")
	_, err := n.Propose(t.Context(), replicatest.Put("k", "refused"))
	replicatest.WantError(t, err, kv.Unavailable, kv.NotApplied)
	select {
	case err := <-done:
		t.Errorf("the restore has ended: %v", err)
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	c.want("k", "")
	c.want("restored99", "v")
	if got := n.Members()[9].Name; got != "m19" {
		t.Errorf("what was applied while it was built is lost: member 9 is %q", got)
	}
	c.put("k", "new")
	n.kill()
	n.start()
	c.want("k", "new")
	c.want("restored0", "v")
}

// A member that is slower than the owner waits at the end of the restore for what it
// builds; one that was started again in between builds it again.
func TestRaftRestoreWaitsForASlowMember(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			dir := backedUp(t, 100)
			c := newCluster(t, 3)
			index := c.put("k", "old")
			slow := c.follower()
			slow.wantAt(index, "k", "old")
			building, release := slow.holdBuild()
			done := c.owner().restoring(t, dir)
			testkit.Eventually(t, "the state is being built", func() bool { return building.Load() == 1 })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			index = c.put("k", "new")
			if restarted {
				release()
				slow.kill()
				slow.start()
			} else {
				slow.wantAt(1, "k", "old") // it reads what it has
				release()
			}
			slow.wantAt(index, "k", "new")
			slow.wantAt(index, "restored99", "v")
			c.wantSame()
		})
	}
}

// wantSame checks that all members hold the same.
func (c *cluster) wantSame() {
	c.t.Helper()
	index := c.put("same", "v")
	var first [32]byte
	for i, n := range c.nodes {
		n.wantAt(index, "same", "v")
		view, _, err := n.View(c.t.Context(), kv.ReadOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		hash, err := view.Hash(c.t.Context())
		view.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		if i == 0 {
			first = hash.Sum
		} else if hash.Sum != first {
			c.t.Errorf("member %d holds something else than member %d", n.id, c.nodes[0].id)
		}
	}
}

// What was built of a restore that has no end goes, on disk too: be it aborted, or the
// owner is gone.
func TestRaftRestoreDropsWhatItBuilt(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "old")
	owner := c.owner()
	id := []byte("id")
	begin := func() kv.Index {
		t.Helper()
		epoch, err := owner.keeper.Epoch(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		staged := replicatest.Put("staged", "x")
		staged.Kind, staged.Expect = command.StageRestore, id
		for _, c := range []*command.Command{{Kind: command.BeginRestore, Expect: id}, staged, {Kind: command.SealRestore, Expect: id}} {
			if _, err := owner.step(t.Context(), epoch, c); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "all build it", func() bool {
			for _, n := range c.nodes {
				if b := n.build.Load(); n.Replica != nil && (b == nil || !closed(b.ready)) {
					return false
				}
			}
			return true
		})
		return epoch
	}
	dropped := func() {
		t.Helper()
		testkit.Eventually(t, "it is gone", func() bool {
			for _, n := range c.nodes {
				if n.Replica == nil {
					continue
				}
				if n.build.Load() != nil || len(n.folders()) != 1 {
					return false
				}
			}
			return true
		})
	}
	epoch := begin()
	owner.abort(epoch, id)
	dropped()
	begin()
	owner.kill()
	c.put("k", "new")
	dropped()
	c.want("k", "new")
	c.want("staged", "")
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A node that ends while it builds finds the old state, whole, and nothing else.
func TestRaftRestoreThatEndsWithTheNode(t *testing.T) {
	dir := backedUp(t, 100)
	c := newCluster(t, 1)
	c.put("k", "old")
	n := c.owner()
	building, release := n.holdBuild()
	done := n.restoring(t, dir)
	testkit.Eventually(t, "the state is being built", func() bool { return building.Load() == 1 })
	raft := n.Replica
	go func() {
		<-raft.state.Closing()
		release()
	}()
	n.kill()
	if err := <-done; err == nil {
		t.Error("the restore was successful")
	}
	n.start()
	c.want("k", "old")
	c.want("restored99", "")
	c.put("k", "new")
	if got := n.folders(); len(got) != 1 {
		t.Errorf("there are %v", got)
	}
	if err := c.owner().Restore(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c.want("restored99", "v")
	c.want("k", "")
}
