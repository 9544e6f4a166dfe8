package slave

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/testkit"
)

// moves waits until the slave has moved to a master, and checks that it took its time,
// lost nothing, and said so.
func (c *copy) moves(to, why string, within time.Duration) {
	c.rig.t.Helper()
	begun := time.Now()
	before := c.Puller.Status()
	for c.Puller.Status().Master != to || c.Puller.Status().Phase != Following {
		if time.Since(begun) > within {
			c.rig.t.Fatalf("it has not moved to %s after %v: status %+v", to, within, c.Puller.Status())
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(begun); took < betterFor {
		c.rig.t.Errorf("it moved after %v", took)
	}
	st := c.Puller.Status()
	if st.Moves != before.Moves+1 || st.Switches != before.Switches+1 || st.Bootstraps != before.Bootstraps {
		c.rig.t.Errorf("status %+v", st)
	}
	if line := fmt.Sprintf("moving to a better master\" vbucket=default from=%s to=%s reason=%q", before.Master, to, why); !strings.Contains(c.rig.logs.String(), line) {
		c.rig.t.Errorf("the log does not say %s", line)
	}
}

// confirms has a twin be in touch with the owner of its log: it is sure that it has all that there is.
func (n *node) confirms() {
	testkit.Run(n.rig.t, func(ctx context.Context) error {
		for sleep.For(ctx, time.Second) {
			n.Replica.(*follower.Replica).Fresh(time.Now())
		}
		return nil
	})
}

const longest = betterFor + betterJitter + 3*betterLook

// TestMovesToABetterMaster has followers come up after the slave has begun with the
// leader, in another data centre first.
func TestMovesToABetterMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		far := m.row(leader)
		far.DcID = "dc2"
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{far}, true)
		s := r.slave(rows, mode)
		s.has(m)
		twin := r.twin("m2:1", m)
		twin.confirms()
		remote := twin.row(primary)
		remote.DcID = "dc2"
		rows.Set([]*serverpb.RegionInfo{far, remote}, true)
		s.moves("m2:1", "it is a follower, and the present one leads", longest)
		m.put("a", "2")
		twin.sync(m)
		s.has(m)
		near := r.twin("m3:1", m)
		near.confirms()
		rows.Set([]*serverpb.RegionInfo{far, remote, near.row(secondary)}, true)
		s.moves("m3:1", "it is in this data centre", longest)
		m.put("a", "3")
		near.sync(m)
		s.has(m)
		// What it follows begins to lead, and another one follows it.
		rows.Set([]*serverpb.RegionInfo{near.row(leader), remote}, true)
		time.Sleep(5 * time.Minute)
		if at := s.Puller.Status().Master; at != "m3:1" {
			t.Errorf("it has moved to %s: a leader here is better than a follower elsewhere", at)
		}
	})
}

// TestStaysWhereItIs has what looks better not be: for a moment, behind, out of reach,
// no better by one slave, or as discovery knew it once.
func TestStaysWhereItIs(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		late := r.twin("late:1", m)
		m.put("a", "2")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
		s := r.slave(rows, mode)
		s.has(m)
		stays := func(what string, live bool, others ...*serverpb.RegionInfo) {
			t.Helper()
			rows.Set(append(others, m.row(leader)), live)
			time.Sleep(5 * time.Minute)
			if st := s.Puller.Status(); st.Master != "m1:1" || st.Moves != 0 || st.Switches != 0 {
				t.Errorf("%s: status %+v", what, st)
			}
		}
		for range 20 {
			rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary)}, true)
			time.Sleep(betterFor / 2)
			rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
			time.Sleep(betterFor / 2)
		}
		stays("one that comes and goes", true)
		stays("one that is behind", true, late.row(primary))
		stays("one that is only remembered", false, twin.row(primary))
		twin.kill()
		stays("one out of reach", true, twin.row(primary))
		stray := r.master("stray:1")
		stray.fill("k", 1000, 10)
		stays("one of another cluster", true, stray.row(primary))
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

// TestLeavesAMasterThatIsCutOff has a master live on that is cut off from the owner of its log: the
// slave goes to one that is not, and comes back when the first one is in touch again.
func TestLeavesAMasterThatIsCutOff(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		off := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m2:1", "m1:1"), mode)
		s.has(m)
		time.Sleep(time.Second)
		s.moves("m1:1", inTouch, outOfTouch+longest)
		time.Sleep(long) // nothing is written, so that the copy could go on at either
		if st := s.Puller.Status(); st.Master != "m1:1" || st.Moves != 1 {
			t.Errorf("it went to and fro: status %+v", st)
		}
		m.put("a", "2")
		s.has(m)
		off.sync(m)
		off.confirms()
		time.Sleep(2 * longest)
		if st := s.Puller.Status(); st.Master != "m2:1" || st.Moves != 2 {
			t.Errorf("it has not come back: status %+v", st)
		}
	})
}

// TestStaysWithAMasterThatIsCutOff has no other one be in touch, or the present one wait for the slave,
// as only the owner of a log does.
func TestStaysWithAMasterThatIsCutOff(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		for name, waits := range map[string]bool{"all are cut off": false, "it owns the log": true} {
			r := newRig(t)
			m := r.master("m1:1")
			m.put("a", "1")
			off := r.twin("m2:1", m)
			r.twin("m3:1", m)
			sources := source.Fixed("m2:1", "m3:1")
			if waits {
				off.lead("m2:1")
				sources = source.Fixed("m2:1", "m1:1")
			}
			s := r.slave(sources, mode)
			s.has(m)
			if waits {
				s.Puller.Want("m2:1", report.Wanted{Listed: true})
			}
			time.Sleep(long)
			if st := s.Puller.Status(); st.Phase != Following || st.Master != "m2:1" || st.Moves != 0 {
				t.Errorf("%s: status %+v", name, st)
			}
			if err := s.Healthy(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestSharesMasters has slaves that all follow one of two equal masters spread, and stay
// spread.
func TestSharesMasters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		a, b := r.twin("a:1", m), r.twin("b:1", m)
		a.confirms()
		b.confirms()
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{a.row(primary)}, true)
		var slaves []*copy
		for i := range 6 {
			slaves = append(slaves, r.slave(rows, func(o *Options, _ *follower.Options) {
				o.Self = &serverpb.Replica{Zone: "dc1", Hostname: fmt.Sprint("slave", i), Port: 1}
			}))
		}
		counts := func() (at map[string]uint32, moves uint64) {
			at = make(map[string]uint32)
			for _, s := range slaves {
				st := s.Puller.Status()
				at[st.Master]++
				moves += st.Moves
			}
			return at, moves
		}
		testkit.Eventually(t, "all follow the only one", func() bool { at, _ := counts(); return at["a:1"] == 6 })
		// A row is a second old, and a slave that has left counts for a while.
		var left [10]uint32
		var settled uint64
		for i := range 600 {
			at, moves := counts()
			if i == 300 {
				settled = moves
			}
			rowA, rowB := a.row(primary), b.row(primary)
			left[i%len(left)] = at["a:1"]
			for _, n := range left {
				rowA.Slaves = max(rowA.Slaves, n)
			}
			rowB.Slaves = at["b:1"]
			rows.Set([]*serverpb.RegionInfo{rowA, rowB}, true)
			time.Sleep(time.Second)
		}
		at, moves := counts()
		// Slaves look at random times, so one may move back. All that is over soon.
		if at["a:1"] < 2 || at["b:1"] < 2 || moves > 2*uint64(len(slaves)) || moves != settled {
			t.Errorf("after ten minutes they are at %v, with %d moves, %d of them in the first half", at, moves, settled)
		}
	})
}
