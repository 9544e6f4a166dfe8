package slave

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// promote has a twin be a master of the next history, which goes on from where it is, and
// writes to it. It returns the new history.
func (n *node) promote(t *testing.T, to string) {
	t.Helper()
	f := n.Replica.(*follower.Replica)
	id, end := f.Position()
	if err := f.Adopt(to, []history.Former{{History: id.History, End: end}}); err != nil {
		t.Fatal(err)
	}
	n.change(t, end, end+era.Gap+1, "promoted")
}

// change writes to a twin at an index.
func (n *node) change(t *testing.T, after, at kv.Index, key string) {
	t.Helper()
	c := kv.Change{Index: at, Clock: 1 << 40, Mutations: []kv.Mutation{{Key: []byte(key), Value: []byte("1")}}}
	if err := n.Replica.(*follower.Replica).Apply(t.Context(), after, []kv.Change{c}, at); err != nil {
		t.Fatal(err)
	}
}

// A slave at or below the end of its history goes on by changes in the one that a promotion
// has begun.
func TestSlaveGoesOnInAPromotedHistory(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 100, 10)
		next := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		s.has(m)
		s.stop() // it misses what comes before the end
		m.put("late", "1")
		next.sync(m)
		m.kill()
		next.promote(t, "1-new")
		s.restart()
		s.has(next)
		if n := s.Puller.Status().Bootstraps; n != 0 {
			t.Errorf("%d bootstraps since the promotion", n)
		}
		if !s.Replica.Succeeds(m.Replica.Status().Identity.History) {
			t.Error("the lineage was not taken over")
		}
		// The former master comes back, and is not followed any more.
		m.revive()
		m.put("dead", "1")
		next.kill()
		testkit.Eventually(t, "the slave has met the former master", func() bool { return strings.Contains(r.logs.String(), former.String()) })
		if id, _ := s.Position(); id.History != "1-new" {
			t.Errorf("the slave went back to history %s", id.History)
		}
	})
}

// A copy that is above the end only by entries without an effect, as a sealed master has them, goes on
// by changes, too; also after promotions of which the later one has the lower end.
func TestSlaveAboveTheEndWithoutChangesGoesOn(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		next := r.twin("m2:1", m)
		state := new(adoptingState)
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode, func(o *Options, _ *follower.Options) { o.State = state })
		s.has(m)
		m.put("b", "1")
		next.sync(m)
		if _, err := m.Propose(t.Context(), setSlave("z", "h:1")); err != nil {
			t.Fatal(err)
		}
		s.has(m)
		_, at := s.Position()
		f := next.Replica.(*follower.Replica)
		id, end := f.Position()
		if at <= end {
			t.Fatalf("the slave is at %d, and the end is %d", at, end)
		}
		m.kill()
		if err := f.Adopt("2-new", []history.Former{{History: id.History, End: at + 7}, {History: "1-none", End: end}}); err != nil {
			t.Fatal(err)
		}
		next.change(t, end, end+era.Gap+1, "promoted")
		s.has(next)
		if n := s.Puller.Status().Bootstraps; n != 1 {
			t.Errorf("%d bootstraps", n)
		}
		if was := state.was.Load(); was != at {
			t.Errorf("it was at %d before it was of the new history; want %d: who reads in between takes lost changes for applied", was, at)
		}
	})
}

// adoptingState is a State that notes at which index it is before it is of another history.
type adoptingState struct {
	*follower.Replica
	was atomic.Uint64
}

func (a *adoptingState) wrap(f *follower.Replica) { a.Replica = f }

func (a *adoptingState) Adopt(to string, lineage []history.Former) error {
	_, at := a.Position()
	a.was.Store(at)
	return a.Replica.Adopt(to, lineage)
}

// A copy with changes that the new history does not have is set aside, and found there.
func TestCopyAboveTheEndIsSetAside(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 100, 10)
	next := r.twin("m2:1", m)
	disk := replicatest.NewRig(t, func(d *replicatest.Rig) { replicatest.OnDiskAt(d, filepath.Join(t.TempDir(), "db")) })
	generations := filepath.Dir(disk.Opts.Generations.Current())
	s := r.slave(source.Fixed("m1:1", "m2:1"), streaming, func(_ *Options, o *follower.Options) {
		o.Options.Open, o.Options.Generations = disk.Opts.Open, disk.Opts.Generations
	})
	m.put("lost", "1")
	s.has(m)
	id, at := s.Position()
	m.kill()
	next.promote(t, "1-new")
	s.has(next)
	folder := filepath.Join(generations, fmt.Sprintf("aside-%s-%d", id.History, at))
	testkit.Eventually(t, "the copy is set aside", func() bool { _, err := os.Stat(folder); return err == nil })
	if !strings.Contains(r.logs.String(), folder) {
		t.Error("the log does not name the folder")
	}
	disk.Reread() // as a process that starts
	if _, err := os.Stat(folder); err != nil {
		t.Error("a start removes the copy that was set aside:", err)
	}
}

// A copy of a promoted history that another promotion of the same state has ended below it may have
// greater numbers than the new masters, which begin where that history began, too.
func TestCopyAboveTheNewMastersIsSetAside(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	a, b := r.twin("a:1", m), r.twin("b:1", m)
	id, end := m.Replica.Status().Identity, m.Replica.Status().Applied
	m.kill()
	a.promote(t, "1-a")
	first := end + era.Gap + 1
	for i := range kv.Index(5) {
		a.change(t, first+i, first+i+1, "lost")
	}
	disk := replicatest.NewRig(t, replicatest.OnDisk)
	generations := filepath.Dir(disk.Opts.Generations.Current())
	s := r.slave(source.Fixed("a:1", "b:1"), streaming, func(_ *Options, o *follower.Options) {
		o.Options.Open, o.Options.Generations = disk.Opts.Open, disk.Opts.Generations
	})
	s.has(a)
	a.kill()
	f := b.Replica.(*follower.Replica)
	if err := f.Adopt("2-b", []history.Former{{History: id.History, End: end}, {History: "1-a", End: end}}); err != nil {
		t.Fatal(err)
	}
	b.change(t, end, first, "promoted")
	testkit.Eventually(t, "the new masters' state is here", func() bool { id, at := s.Position(); return id.History == "2-b" && at == first })
	s.equals(b)
	folder := filepath.Join(generations, fmt.Sprintf("aside-1-a-%d", first+5))
	testkit.Eventually(t, "the copy is set aside", func() bool { _, err := os.Stat(folder); return err == nil })
}

// A copy above the end gives way also if the former owner has waited for it, which nothing takes back:
// the owner that is named since is not the one that waits.
func TestStandbyAboveTheEndGivesWay(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 100, 10)
	next := r.twin("m2:1", m)
	rows := source.NewRows("db")
	rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
	s := r.slave(rows, streaming)
	s.Puller.Want("m1:1", report.Wanted{Listed: true})
	m.put("lost", "1")
	s.has(m)
	m.kill()
	next.promote(t, "1-new")
	rows.Set([]*serverpb.RegionInfo{next.row(leader)}, true)
	s.has(next)
}

// A slave leaves its master as soon as discovery knows one of a later era, without waiting
// for the former one to fail.
func TestSlaveLeavesAFormerMaster(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	next := r.twin("m2:1", m)
	rows := source.NewRows("db")
	rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
	s := r.slave(rows, streaming)
	s.has(m)
	next.promote(t, "1-new")
	rows.Set([]*serverpb.RegionInfo{m.row(leader), next.row(leader)}, true)
	s.has(next)
	testkit.Eventually(t, "the slave names the new leader", func() bool { return s.Puller.Leader() == "m2:1" || s.Puller.Leader() == "" })
	if got := s.Puller.candidates(); len(got) != 1 || got[0].Address != "m2:1" {
		t.Errorf("candidates %v", got)
	}
}

// A copy with changes that a promotion did not keep gives way also while its former master runs on
// and is known: it does not return to that one.
func TestCopyAboveTheEndLeavesAFormerMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		next := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
		s := r.slave(rows, streaming)
		m.put("lost", "1")
		s.has(m)
		next.promote(t, "1-new")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), next.row(leader)}, true)
		s.has(next)
		if n := s.Puller.Status().Moves; n != 1 {
			t.Errorf("%d moves", n)
		}
	})
}

// Masters that an operator names have no rows that say which one is of a later era: such a copy stays
// with the one that it follows, and does not move to and fro.
func TestCopyAboveTheEndStaysWithANamedMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		next := r.twin("m2:1", m)
		next.kill()
		s := r.slave(source.Fixed("m2:1", "m1:1"), streaming)
		m.put("lost", "1")
		s.has(m)
		next.promote(t, "1-new")
		next.revive()
		time.Sleep(3 * (betterFor + betterJitter))
		m.put("b", "1")
		s.has(m)
		if n := s.Puller.Status().Moves; n != 0 {
			t.Errorf("%d moves", n)
		}
	})
}

func TestDescent(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.put("a", "1")
	s := r.slave(source.Fixed("m1:1"), streaming)
	s.has(m)
	if err := s.Replica.Adopt("2-b", []history.Former{{History: "h0"}, {History: s.Replica.Status().Identity.History, End: 5}, {History: "1-a", End: 9}}); err != nil {
		t.Fatal(err)
	}
	cluster := s.Replica.Status().Identity.Cluster
	lineage := func(f ...*serverpb.FormerHistory) []*serverpb.FormerHistory { return f }
	ended := func(history string, end uint64) *serverpb.FormerHistory {
		return &serverpb.FormerHistory{HistoryId: history, End: end}
	}
	for _, c := range []struct {
		name    string
		history string
		lineage []*serverpb.FormerHistory
		newest  kv.Index // 0 is 100
		want    verdict
	}{
		{"the same", "2-b", nil, 0, fit},
		{"no state", "", nil, 0, behind},
		{"of the lineage", "1-a", nil, 0, former},
		{"a lesser era that is not known", "1-x", lineage(ended("2-b", 0)), 0, former},
		{"a promotion at or above the copy", "3-c", lineage(ended("2-b", 7)), 0, promoted},
		{"two promotions", "4-d", lineage(ended("2-b", 7), ended("3-c", 1<<41)), 0, promoted},
		{"a promotion below the copy", "3-c", lineage(ended("2-b", 6)), 0, surplus},
		{"a promotion of a restored state", "3-c", lineage(ended("2-b", 9), ended("2-r", 0), ended("2-s", 20)), 0, renewed},
		{"a promotion of a state restored below the copy", "3-c", lineage(ended("2-b", 9), ended("2-r", 0), ended("2-s", 20)), 3, rewritten},
		{"a promotion of an old copy", "3-c", lineage(ended("1-a", 7)), 0, rewritten},
		{"a restore", "2-r", lineage(ended("2-b", 0)), 0, renewed},
		{"another promotion of the same state", "2-z", lineage(ended("1-a", 9)), 0, rival},
	} {
		resp := &serverpb.GetChangesResponse{ClusterId: cluster, HistoryId: c.history, Lineage: c.lineage, MasterChangeNumber: cmp.Or(c.newest, 100)}
		resp.ReplacesHistory = len(c.lineage) > 0 && c.lineage[0].GetHistoryId() == "2-b"
		look := &session{Puller: s.Puller}
		if got := look.descent(resp, history.Identity{Cluster: cluster, History: "2-b"}, 7); got != c.want {
			t.Errorf("%s: it %v; want one that %v", c.name, got, c.want)
		}
	}
	// Entries without an effect: behind the indexes that the last promotion has skipped are others of its own.
	for at, want := range map[kv.Index]verdict{7: promoted, 6 + era.Gap: promoted, 7 + era.Gap: surplus} {
		resp := &serverpb.GetChangesResponse{ClusterId: cluster, HistoryId: "3-c", Lineage: lineage(ended("2-b", 6)), MasterChangeNumber: 9 + era.Gap}
		look := &session{Puller: s.Puller, last: mark{index: 6}}
		if got := look.descent(resp, history.Identity{Cluster: cluster, History: "2-b"}, at); got != want {
			t.Errorf("at %d without a change after 6: it %v; want one that %v", at, got, want)
		}
	}
}
