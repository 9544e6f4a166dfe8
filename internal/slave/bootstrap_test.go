package slave

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestSnapshotIsGoneOnWith breaks the connection again and again: the snapshot goes on
// where it was.
func TestSnapshotIsGoneOnWith(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 3000, 2000) // 6 MB
		m.cutAfter(2_500_000)
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		st := s.Puller.Status()
		if st.Bootstraps != 1 || st.Bytes > 8<<20 {
			t.Errorf("status %+v", st)
		}
		m.cutAfter(0)
		m.put("k", "v")
		s.has(m)
	})
}

// TestMasterDiesInSnapshot has the master vanish for good in the middle: another one
// gives a snapshot.
func TestMasterDiesInSnapshot(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 3000, 2000)
		twin := r.twin("m2:1", m)
		twin.cutAfter(2_500_000)
		s := r.slave(source.Fixed("m2:1", "m1:1"), mode)
		testkit.Eventually(r.t, "a part of the snapshot is there", func() bool { return s.Puller.Status().Snapshot.Bytes > 0 })
		if err := s.Healthy(); err == nil {
			t.Error("it is healthy in the middle of a bootstrap")
		}
		twin.kill()
		s.has(m)
		if at := s.Puller.Status().Master; at != "m1:1" {
			t.Errorf("it follows %s", at)
		}
	})
}

// TestSlaveDiesInSnapshot ends the slave in the middle of a bootstrap and starts it
// again.
func TestSlaveDiesInSnapshot(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 3000, 2000)
		m.cutAfter(2_500_000)
		s := r.slave(source.Fixed("m1:1"), mode)
		testkit.Eventually(r.t, "a part of the snapshot is there", func() bool { return s.Puller.Status().Snapshot.Bytes > 0 })
		s.stop()
		m.cutAfter(0)
		if s.Replica.Readable() {
			t.Error("a part of a state is read")
		}
		s.restart()
		s.has(m)
	})
}

// TestTrimmed has the master forget what the slave needs.
func TestTrimmed(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1", retain(changelog.Retention{MaxAge: time.Hour}))
		m.fill("k", 500, 10)
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		s.stop()
		_, at := s.Position()
		m.fill("k", 300, 20)
		time.Sleep(2 * time.Hour)
		m.put("last", "1")
		time.Sleep(time.Minute)
		if floor := m.Replica.Status().ChangelogFloor; floor <= at+1 {
			t.Fatalf("the master still has all from %d on", floor)
		}
		s.restart()
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 1 {
			t.Errorf("status %+v", st)
		}
		m.put("more", "1")
		s.has(m)
	})
}

// TestTrimmedWhileAwaited is that of a standby: its owner has put it out meanwhile, which a slave
// that confirms nothing is not told.
func TestTrimmedWhileAwaited(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1", retain(changelog.Retention{MaxAge: time.Hour}))
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		s.Puller.lead("m1:1")
		s.Puller.Want("m1:1", report.Wanted{Listed: true})
		m.kill()
		m.fill("k", 300, 20)
		time.Sleep(2 * time.Hour)
		m.put("last", "1")
		time.Sleep(time.Minute)
		m.revive()
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 2 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestTrimmedElsewhere has one master forget what another one still has: no snapshot
// is needed.
func TestTrimmedElsewhere(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m2:1", "m1:1"), mode)
		s.has(m)
		s.stop()
		m.put("a", "2")
		m.put("a", "3")
		r.twin("m2:1", m) // has no change before its own snapshot
		s.restart()
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 0 || st.Master != "m1:1" {
			t.Errorf("status %+v", st)
		}
	})
}

// TestRestoredMaster gives the leader another history: a slave takes it over at once,
// whatever becomes of those who still have the one before.
func TestRestoredMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		for name, fixed := range map[string]bool{"fixed": true, "discovery": false} {
			r := newRig(t)
			m := r.master(name + "1:1")
			m.put("a", "1")
			backup := t.TempDir() + "/backup"
			if err := m.Backup(t.Context(), backup); err != nil {
				t.Fatal(err)
			}
			m.put("a", "2")
			var sources Sources = source.Fixed(m.addr)
			if !fixed {
				dead := r.twin("twin:1", m)
				dead.kill()
				rows := source.NewRows("db")
				rows.Set([]*serverpb.RegionInfo{dead.row(primary), m.row(leader)}, true)
				sources = rows
			}
			s := r.slave(sources, mode)
			s.has(m)
			if err := m.Restore(t.Context(), backup); err != nil {
				t.Fatal(err)
			}
			m.put("b", "1")
			begun := time.Now()
			s.has(m)
			if took := time.Since(begun); took > giveUpAfter/2 {
				t.Errorf("%s: %v until the restored state was there", name, took)
			}
			m.put("b", "2")
			s.has(m)
		}
	})
}

// TestOtherHistoryElsewhere has one of two masters be of another cluster: it is
// avoided as long as the other one is named.
func TestOtherHistoryElsewhere(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m, other := r.master("m1:1"), r.master("m2:1")
		m.put("a", "1")
		other.fill("k", 1000, 10)
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		s.has(m)
		m.kill()
		time.Sleep(giveUpAfter / 2)
		m.revive()
		m.put("a", "2")
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 1 {
			t.Errorf("status %+v", st)
		}
		m.kill()
		time.Sleep(5 * time.Minute)
		s.equals(m)
		s.keeps(m, "m2:1", "belongs to another cluster, and m1:1 may still have what comes next here")
		// That an operator names no other one is no order: it may be a mistake.
		s.stop()
		s.opts.Sources = source.Fixed("m2:1")
		s.restart()
		time.Sleep(5 * time.Minute)
		s.keeps(m, "m2:1", "belongs to another cluster;")
		s.resync()
		s.has(other)
	})
}

// TestStrayCluster has a node of another cluster use the same names, and be shown as
// the leader: a slave that has data neither takes its state nor sends anybody there,
// whatever becomes of its own masters.
func TestStrayCluster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m, stray := r.master("m1:1"), r.master("stray:1")
		m.fill("k", 500, 10)
		stray.put("k", "stray")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary), stray.row(secondary)}, true)
		s := r.slave(rows, mode)
		s.has(m)
		keeps := func(after string, d time.Duration) {
			t.Helper()
			before := s.Puller.Status().Bootstraps
			time.Sleep(d)
			s.equals(m)
			if at := s.Owner().Address; at != "m1:1" || s.Puller.Status().Bootstraps != before {
				t.Errorf("%s: the leader is at %q, status %+v", after, at, s.Puller.Status())
			}
		}
		m.kill()
		twin.kill()
		keeps("its masters were killed", time.Minute)
		rows.Set([]*serverpb.RegionInfo{twin.row(primary), stray.row(leader)}, true)
		keeps("the stray one leads", time.Minute)
		twin.revive() // but is behind
		s.stop()
		m.revive()
		m.put("k", "later")
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
		s.restart()
		s.has(m)
		m.kill()
		rows.Set([]*serverpb.RegionInfo{twin.row(primary), stray.row(leader)}, true)
		keeps("one is behind", time.Minute)
		rows.Set([]*serverpb.RegionInfo{stray.row(leader)}, true)
		keeps("the rows of its own are gone", 10*time.Minute)
		s.keeps(m, "stray:1", "belongs to another cluster;")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), stray.row(secondary)}, true)
		m.revive()
		m.put("k", "last")
		s.has(m)
	})
}

// TestTrimmedWhileExcluded has one master have failed lately and the other one have
// forgotten what comes next: the first is asked again before a snapshot is made.
func TestTrimmedWhileExcluded(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		s.has(m)
		s.stop()
		m.put("a", "2")
		m.put("a", "3")
		r.twin("m2:1", m) // has no change before its own snapshot
		s.Puller = New(s.Puller.opts)
		for range 5 {
			s.chooser.Failed("m1:1", 0)
		}
		testkit.Run(r.t, s.Puller.Run)
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 0 || st.Master != "m1:1" {
			t.Errorf("status %+v", st)
		}
	})
}

// TestMasterBehind leaves the slave with a master that has not got as far: it waits,
// and follows on when the master has drawn level.
func TestMasterBehind(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		m.put("a", "2")
		s.has(m)
		m.kill()
		time.Sleep(5 * time.Minute)
		s.equals(m) // it still has what it had
		m.put("a", "3")
		twin.sync(m)
		begun := time.Now()
		s.has(m)
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("%v until it followed again", took)
		}
		if st := s.Puller.Status(); st.Bootstraps != 1 || st.Master != "m2:1" {
			t.Errorf("status %+v", st)
		}
	})
}

// TestLogGoesBack has all that is left of the log end before what the slave has: what
// is here is nowhere else, and stays until an operator orders otherwise.
func TestLogGoesBack(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		old := r.twin("m2:1", m)
		m.put("a", "2")
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
		s := r.slave(rows, mode)
		s.has(m)
		m.kill()
		rows.Set([]*serverpb.RegionInfo{m.row(leader), old.row(secondary)}, true)
		testkit.Run(r.t, func(ctx context.Context) error { // it is sure to have all that there is
			for sleep.For(ctx, 100*time.Millisecond) {
				old.Replica.(*follower.Replica).Fresh(time.Now())
			}
			return nil
		})
		time.Sleep(time.Minute)
		s.equals(m) // the other one may come back
		rows.Set([]*serverpb.RegionInfo{old.row(secondary)}, true)
		time.Sleep(5 * time.Minute)
		s.keeps(m, "m2:1", "has lost changes that are here")
		s.resync()
		testkit.Eventually(r.t, "the slave gives way", func() bool { return s.Puller.Status().Bootstraps == 2 })
		s.equals(old)
	})
}

// TestDiverged has another master with other changes under the same numbers.
func TestDiverged(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		other := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		s.has(m)
		m.put("a", "2")
		s.has(m)
		f := other.Replica.(*follower.Replica)
		var changes []kv.Change
		for i := range kv.Index(3) {
			changes = append(changes, kv.Change{Index: 2 + i, Clock: kv.ClockOf(time.Now()), Mutations: []kv.Mutation{{Key: []byte("a"), Value: []byte("other")}}})
		}
		if err := f.Apply(t.Context(), 1, changes, 4); err != nil {
			t.Fatal(err)
		}
		m.kill()
		time.Sleep(time.Minute)
		s.equals(m) // the other one may come back
		s.stop()
		s.opts.Sources = source.Fixed("m2:1")
		s.restart()
		time.Sleep(time.Minute)
		s.keeps(m, "m2:1", "has other changes under the same numbers")
		s.resync()
		s.has(other)
	})
}

// fullState has room for nothing until it is told otherwise.
type fullState struct {
	*follower.Replica
	full func() bool
}

func (f *fullState) wrap(to *follower.Replica) { f.Replica = to }

func (f *fullState) Fits(bytes uint64) error {
	if f.full() {
		return kv.Errorf(kv.Exhausted, "%w: at %v", storage.ErrNoSpace, time.Now())
	}
	return f.Replica.Fits(bytes)
}

func TestSnapshotWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 12000, 2000) // more than is ever under way
		begun := time.Now()
		calls := 0
		s := r.slave(source.Fixed("m1:1"), func(o *Options, _ *follower.Options) {
			o.State = &fullState{full: func() bool {
				calls++
				return time.Since(begun) < 45*time.Second && calls > 3
			}}
		})
		time.Sleep(30 * time.Second)
		st := s.Puller.Status()
		if st.Err == nil || st.Phase != Bootstrapping || st.Snapshot.Bytes == 0 {
			t.Errorf("status %+v", st)
		}
		if n := m.snapshots.Load(); n != 0 {
			t.Errorf("%d snapshots are being sent to a slave that has no room", n)
		}
		if n := strings.Count(r.logs.String(), "disk is full"); n != 1 {
			t.Errorf("that was logged %d times", n)
		}
		s.has(m)
		if got := s.Puller.Status().Bytes; got > 32<<20 {
			t.Errorf("%d bytes were sent: it was started again", got)
		}
		if st := s.Puller.Status(); st.Err != nil || st.Bootstraps != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// A master that has nothing to give costs no engine: a slave opens one for the state to come
// once the first chunk of its snapshot is there, however often it has tried before.
func TestNoEngineBeforeTheFirstChunk(t *testing.T) {
	for name, away := range map[string]func(m *node) (back func()){
		"refuses connections": func(m *node) func() { m.kill(); return m.revive },
		"does not answer":     func(m *node) func() { return m.hang() },
		"has no state yet": func(m *node) func() {
			empty := m.rig.serve(m.addr, m.rig.follower(follower.Options{Options: m.rig.options()}))
			return func() {
				m.rig.mu.Lock()
				m.rig.nodes[m.addr] = m
				m.rig.mu.Unlock()
				empty.kill()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				m := r.master("m1:1")
				m.fill("k", 10, 100)
				back := away(m)
				var opened atomic.Int64
				s := r.slave(source.Fixed("m1:1"), func(_ *Options, f *follower.Options) {
					open := f.Open
					f.Open = func(place string) (storage.Engine, error) {
						opened.Add(1)
						return open(place)
					}
				})
				time.Sleep(2 * time.Minute)
				if err := s.Puller.Status().Err; err == nil {
					t.Error("nothing was tried")
				}
				if n := opened.Load(); n != 1 { // its own, as it was started
					t.Errorf("%d engines were opened for a state that did not come", n-1)
				}
				back()
				s.has(m)
				if n := opened.Load(); n != 2 {
					t.Errorf("%d engines were opened for one bootstrap", n-1)
				}
			})
		})
	}
}
