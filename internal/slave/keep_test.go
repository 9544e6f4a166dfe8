package slave

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// keeps fails the test unless the slave has what a node had, says so in its health and
// once in the log, and names the master that it does not follow, why, and the way out.
func (c *copy) keeps(of *node, master, why string) {
	c.rig.t.Helper()
	c.equals(of)
	err := c.Healthy()
	if err == nil {
		c.rig.t.Fatalf("it is healthy; status %+v", c.Puller.Status())
	}
	id, _ := c.Position()
	for _, part := range []string{"keeps its copy (cluster " + id.Cluster, "read-only", "master " + master + " (cluster ", why, "dkvctl -a slave:1 -resync"} {
		if !strings.Contains(err.Error(), part) {
			c.rig.t.Errorf("health does not say %q: %v", part, err)
		}
	}
	if n := strings.Count(c.rig.logs.String(), err.Error()); n > 1 {
		c.rig.t.Errorf("that was logged %d times: %v", n, err)
	}
}

// resync orders the copy to be given up.
func (c *copy) resync() {
	c.rig.t.Helper()
	if _, err := c.Puller.Resync(context.Background(), false); err != nil {
		c.rig.t.Fatal(err)
	}
}

// wiped has a master come back at its address with an empty folder.
func (r *rig) wiped(n *node) *node {
	n.kill()
	return r.master(n.addr)
}

// TestMasterComesBackEmpty has the only master lose its folder: the copy is the last one,
// and stays whatever becomes of the master, until it is ordered to go.
func TestMasterComesBackEmpty(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		empty := r.wiped(m)
		time.Sleep(2 * time.Second)
		s.keeps(m, "m1:1", "belongs to another cluster;")
		if at := s.Owner().Address; at != "" {
			t.Errorf("writes and linearizable reads are sent to %s, which is another cluster's", at)
		}
		time.Sleep(long)
		s.keeps(m, "m1:1", "belongs to another cluster;")
		empty.fill("k", 2000, 10) // neither does that it has more now
		time.Sleep(time.Minute)
		s.keeps(m, "m1:1", "belongs to another cluster;")
		s.stop()
		s.restart()
		time.Sleep(time.Minute)
		s.keeps(m, "m1:1", "belongs to another cluster;")
		if st := s.Puller.Status(); st.Bootstraps != 0 || st.Phase != Searching {
			t.Errorf("status %+v", st)
		}
		s.resync()
		s.has(empty)
		time.Sleep(time.Second)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

// TestOrderIsForWhatWasSeen has the master be emptied once more after the order: that is
// another state than the one for which the copy was given up.
func TestOrderIsForWhatWasSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		s := r.slave(source.Fixed("m1:1"))
		s.has(m)
		second := r.wiped(m)
		second.fill("k", 100, 10)
		time.Sleep(5 * time.Second)
		second.kill()
		time.Sleep(time.Second)
		s.resync()
		third := r.wiped(second)
		time.Sleep(time.Minute)
		s.equals(m)
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "the order to give it up waits") {
			t.Errorf("health: %v", err)
		}
		s.resync()
		s.has(third)
	})
}

// TestOrderForAnotherClusterIsWithdrawn has the copy's own master come back after the
// order: the copy was given up for the other cluster's state, and is not rebuilt from
// its own.
func TestOrderForAnotherClusterIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		s := r.slave(source.Fixed("m1:1"))
		s.has(m)
		second := r.wiped(m)
		second.fill("k", 100, 10)
		time.Sleep(time.Minute)
		second.kill()
		time.Sleep(time.Second)
		s.resync()
		if order, is := s.Ordered(); !is || order != second.Replica.Status().Identity.Cluster {
			t.Fatalf("ordered: %v, for %q", is, order)
		}
		r.mu.Lock()
		r.nodes[m.addr] = m
		r.mu.Unlock()
		m.revive()
		testkit.Eventually(r.t, "its own master is followed", func() bool { return s.Puller.Status().Phase == Following })
		m.put("more", "1")
		s.has(m)
		if order, is := s.Ordered(); is {
			t.Errorf("the order for %s stands", order)
		}
		if st := s.Puller.Status(); st.Bootstraps != 1 {
			t.Errorf("it was rebuilt: %+v", st)
		}
		if !strings.Contains(r.logs.String(), "the order to give up the copy is withdrawn") {
			t.Error("the log does not say so")
		}
	})
}

// TestForcedRebuildNeedsRoom has a disk without room for a second copy: the order is
// refused, and one that was given before waits while the copy follows on.
func TestForcedRebuildNeedsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		var full atomic.Bool
		s := r.slave(source.Fixed("m1:1"), func(o *Options, _ *follower.Options) { o.State = &fullState{full: full.Load} })
		s.has(m)
		full.Store(true)
		if text, err := s.Puller.Resync(t.Context(), true); kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), "there is no room for that") {
			t.Errorf("%q, %v", text, err)
		}
		// The disk was filled after the order.
		if err := s.Order(t.Context(), m.Replica.Status().Identity.Cluster); err != nil {
			t.Fatal(err)
		}
		m.kill()
		time.Sleep(time.Second)
		m.revive()
		m.put("more", "1")
		s.has(m)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		full.Store(false)
		testkit.Eventually(r.t, "it is rebuilt when there is room", func() bool { return s.Puller.Status().Bootstraps == 2 })
		s.has(m)
		if _, is := s.Ordered(); is {
			t.Error("the order stands")
		}
	})
}

// TestRebuildThatRunsOutOfRoom has a disk become full while a copy that is well is rebuilt as
// ordered: the copy follows on, and is rebuilt when there is room.
func TestRebuildThatRunsOutOfRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 12000, 2000)
		var room atomic.Int64 // how many times there is still some
		room.Store(math.MaxInt64)
		s := r.slave(source.Fixed("m1:1"), func(o *Options, _ *follower.Options) {
			o.State = &fullState{full: func() bool { return room.Add(-1) < 0 }}
		})
		s.has(m)
		room.Store(6)
		if _, err := s.Puller.Resync(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(r.t, "the disk is full", func() bool { return room.Load() < 0 })
		m.put("more", "1")
		s.has(m)
		time.Sleep(10 * time.Minute)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if _, is := s.Ordered(); !is || m.snapshots.Load() != 0 {
			t.Errorf("ordered: %v, %d snapshots are being sent", is, m.snapshots.Load())
		}
		if st := s.Puller.Status(); st.Bytes > 100<<20 {
			t.Errorf("it was tried again and again: %+v", st)
		}
		room.Store(math.MaxInt64)
		testkit.Eventually(r.t, "it is rebuilt when there is room", func() bool { return s.Puller.Status().Bootstraps == 2 })
		s.has(m)
	})
}

// TestResyncIsRefused where it would cost a copy that no master contradicts.
func TestResyncIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		m.kill()
		s := r.slave(source.Fixed("m1:1"))
		refused := func(what string) {
			t.Helper()
			if text, err := s.Puller.Resync(t.Context(), false); kv.KindOf(err) != kv.Precondition {
				t.Errorf("%s: %q, %v", what, text, err)
			}
		}
		time.Sleep(time.Second)
		refused("a copy that is yet to be")
		m.revive()
		s.has(m)
		refused("a copy that follows")
		m.kill()
		time.Sleep(time.Minute)
		refused("a copy whose master is away")
		m.revive()
		s.has(m)
		// With force it is rebuilt from the same history.
		if _, err := s.Puller.Resync(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(r.t, "it is rebuilt", func() bool { return s.Puller.Status().Bootstraps == 2 })
		s.has(m)
		time.Sleep(time.Minute)
		if st := s.Puller.Status(); st.Bootstraps != 2 || st.Phase != Following {
			t.Errorf("status %+v", st)
		}
	})
}

// TestShrunkByDeletes has the master delete all that there is: that is the same history.
func TestShrunkByDeletes(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		m.put("b", "1")
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		s.stop()
		m.write(kv.Mutation{Key: []byte("a"), Delete: true}, kv.Mutation{Key: []byte("b"), Delete: true})
		s.restart()
		s.has(m)
		if s.sees("a") || s.Puller.Status().Bootstraps != 0 {
			t.Errorf("status %+v", s.Puller.Status())
		}
	})
}

// TestEmptyCopyTakesAnother has a copy without a key be no reason to keep it.
func TestEmptyCopyTakesAnother(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		m.write(kv.Mutation{Key: []byte("a"), Delete: true})
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		other := r.wiped(m)
		other.put("b", "1")
		s.has(other)
	})
}

// TestRestoreOfTheSameCluster has a state be followed to wherever its cluster is restored,
// and only there: another state under the cluster's id is none of its own.
func TestRestoreOfTheSameCluster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		backup := t.TempDir() + "/empty"
		if err := m.Backup(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		m.fill("k", 500, 10)
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		s.stop()
		for range 3 { // also over several, and to nothing at all: that was ordered there
			if err := m.Restore(t.Context(), backup); err != nil {
				t.Fatal(err)
			}
		}
		s.restart()
		s.has(m)
		if !strings.Contains(r.logs.String(), "has a restored state in the place of this history") {
			t.Error("that is not logged as such")
		}
		m.fill("k", 500, 10)
		s.has(m)
		// A log that goes by the cluster's id and has no part in its history.
		s.stop()
		m.kill()
		forged := r.master("m1:1")
		forged.fill("k", 5000, 10)
		claims := &claimed{Replica: forged.Replica, cluster: m.Replica.Status().Identity.Cluster}
		forged.kill()
		r.serve("m1:1", claims)
		s.restart()
		time.Sleep(long)
		s.keeps(m, "m1:1", "has another history that is not known to replace this one")
	})
}

// TestLaggingFollowerOfARestore has a follower that has not got to the restore yet: its
// history is one that the copy's has replaced.
func TestLaggingFollowerOfARestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 500, 10)
		late := r.twin("m2:1", m)
		backup := t.TempDir() + "/backup"
		if err := m.Backup(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		if err := m.Restore(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
		s := r.slave(rows)
		s.has(m)
		m.kill()
		rows.Set([]*serverpb.RegionInfo{late.row(secondary)}, true)
		time.Sleep(long)
		s.keeps(m, "m2:1", "is behind this node, and is waited for")
	})
}

// claimed is a replica that says to be of another cluster.
type claimed struct {
	replica.Replica
	cluster string
}

func (c *claimed) Changes(ctx context.Context, from kv.Index, limit, maxBytes int) (fsm.Changes, error) {
	out, err := c.Replica.Changes(ctx, from, limit, maxBytes)
	out.Cluster = c.cluster
	return out, err
}

// TestOrderGoesOnAfterAStop ends the process in the middle of giving up the copy: the copy
// is there as it was, and so is the order. A diskless one has neither.
func TestOrderGoesOnAfterAStop(t *testing.T) {
	for _, e := range engines {
		if e.name == "badger" {
			continue // a load that was cut short leaves goroutines of its library
		}
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t)
			m := r.master("m1:1")
			m.fill("k", 500, 10)
			state := e.on(t, t.TempDir())
			s := r.slave(source.Fixed("m1:1"), streaming, state)
			s.has(m)
			other := r.wiped(m)
			other.fill("other", 3000, 2000) // 6 MB
			other.cutAfter(2_500_000)
			testkit.Eventually(r.t, "the copy is kept", func() bool { return s.Puller.Status().Kept != "" })
			s.keeps(m, "m1:1", "belongs to another cluster;")
			s.resync()
			testkit.Eventually(r.t, "a part of the snapshot is there", func() bool { return s.Puller.Status().Snapshot.Bytes > 0 })
			if err := s.Healthy(); err == nil {
				t.Error("it is healthy while it gives up its copy")
			}
			s.equals(m) // which is read meanwhile
			other.kill()
			s.stop()
			if !e.onDisk {
				return
			}
			if err := s.Replica.Close(); err != nil {
				t.Fatal(err)
			}
			s = r.slave(source.Fixed("m1:1"), streaming, state)
			s.equals(m)
			other.cutAfter(0)
			other.revive()
			s.has(other)
			if _, ordered := s.Ordered(); ordered {
				t.Error("the order stands although it was carried out")
			}
			if st := s.Puller.Status(); st.Bootstraps != 1 {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// TestOrderIsWithdrawnDuringTheLoad has an operator withdraw an order while the state of
// the other cluster is being loaded: the copy stays, and may be ordered to go again.
func TestOrderIsWithdrawnDuringTheLoad(t *testing.T) {
	for _, e := range engines {
		if e.name == "badger" {
			continue // a load that was cut short leaves goroutines of its library
		}
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t)
			m := r.master("m1:1")
			m.fill("k", 500, 10)
			s := r.slave(source.Fixed("m1:1"), streaming, e.on(t, t.TempDir()))
			s.has(m)
			if _, err := s.Puller.CancelResync(t.Context()); kv.KindOf(err) != kv.Precondition {
				t.Errorf("there is no order, and it is withdrawn: %v", err)
			}
			other := r.wiped(m)
			other.fill("other", 3000, 2000) // 6 MB
			other.cutAfter(2_500_000)
			testkit.Eventually(r.t, "the copy is kept", func() bool { return s.Puller.Status().Kept != "" })
			s.resync()
			testkit.Eventually(r.t, "a part of the snapshot is there", func() bool { return s.Puller.Status().Snapshot.Bytes > 0 })
			what, err := s.Puller.CancelResync(t.Context())
			if err != nil || !strings.Contains(what, "stays") {
				t.Fatalf("%q, %v", what, err)
			}
			testkit.Eventually(r.t, "the load has ended", func() bool { return strings.Contains(r.logs.String(), "what was loaded of another one is removed") })
			other.cutAfter(0)
			testkit.Eventually(r.t, "the copy is kept again", func() bool {
				k := s.Puller.Status().Kept
				return k != "" && !strings.Contains(k, "the order to give it up waits")
			})
			s.equals(m)
			if _, ordered := s.Ordered(); ordered || s.Puller.Status().Bootstraps != 1 {
				t.Errorf("ordered: %v; %+v", ordered, s.Puller.Status())
			}
			s.resync()
			s.has(other)
		})
	}
}

// TestSnapshotOfAnotherState has the master be exchanged between the look at it and its
// snapshot.
func TestSnapshotOfAnotherState(t *testing.T) {
	own := grant{cluster: "c", history: "h"}
	chunk := func(cluster, history string, at uint64) *serverpb.SnapshotChunk {
		return &serverpb.SnapshotChunk{ClusterId: cluster, HistoryId: history, ChangeNumber: at}
	}
	for name, tc := range map[string]struct {
		grant grant
		chunk *serverpb.SnapshotChunk
		fits  bool
	}{
		"its own":                   {own, chunk("c", "h", 10), true},
		"older":                     {own, chunk("c", "h", 9), false},
		"older, as ordered":         {grant{cluster: "c", older: true}, chunk("c", "h", 9), true},
		"of another history":        {own, chunk("c", "h2", 99), false},
		"of any history of its own": {grant{cluster: "c", older: true}, chunk("c", "h2", 1), true},
		"of another cluster":        {grant{cluster: "c", older: true}, chunk("d", "h", 99), false},
		"where there is nothing":    {grant{any: true}, chunk("d", "h", 0), true},
	} {
		if err := tc.grant.check(tc.chunk, 10); (err == nil) != tc.fits {
			t.Errorf("%s: %v", name, err)
		}
	}
}
