package slave

import (
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// TestTrimmedWhileAnotherIsAway has one master be down for a moment and the other one have
// forgotten what comes next: the first is waited for, and no snapshot is made.
func TestTrimmedWhileAnotherIsAway(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode)
		s.has(m)
		s.stop()
		m.put("a", "2")
		m.put("a", "3")
		other := r.twin("m2:1", m) // has no change before its own snapshot
		m.kill()
		s.restart()
		time.Sleep(giveUpAfter / 2)
		m.revive()
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 0 {
			t.Errorf("status %+v", st)
		}
		// One that stays away is not waited for.
		s.stop()
		m.put("a", "4")
		m.put("a", "5")
		other.kill()
		last := r.twin("m2:1", m)
		m.kill()
		s.restart()
		s.has(last)
	})
}

// TestTrimmedWhileAnotherLags is that of a follower which draws level.
func TestTrimmedWhileAnotherLags(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		lagging := r.twin("m3:1", m)
		s := r.slave(source.Fixed("m1:1", "m2:1", "m3:1"), mode)
		m.put("a", "2")
		s.has(m)
		s.stop()
		m.put("a", "3")
		m.put("a", "4")
		r.twin("m2:1", m) // has no change before its own snapshot
		m.kill()
		s.restart()
		time.Sleep(giveUpAfter / 2)
		lagging.sync(m)
		s.has(m)
		if st := s.Puller.Status(); st.Bootstraps != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestFormerMasterThatRejoined is one that a promotion has made a slave while its row is still that of a
// master. It begins with a snapshot, and so retains nothing: the masters in its place have all changes,
// and their rows come in a moment.
func TestFormerMasterThatRejoined(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		for name, listed := range map[string]bool{"the new masters are listed": true, "they never are": false} {
			r := newRig(t)
			m := r.master("m1:1")
			m.put("a", "1")
			rows := source.NewRows("db")
			rows.Set([]*serverpb.RegionInfo{m.row(leader)}, true)
			s := r.slave(rows, mode)
			s.has(m)
			next := r.twin("m2:1", m)
			next.promote(t, "1-new")
			m.kill()
			rejoined := r.twin("m1:1", next)
			time.Sleep(giveUpAfter / 2)
			want := uint64(1)
			if listed {
				rows.Set([]*serverpb.RegionInfo{rejoined.row(serverpb.RegionStatus_ACTIVE_SLAVE), next.row(leader)}, true)
			} else {
				want++
			}
			s.has(next)
			if n := s.Puller.Status().Bootstraps; n != want {
				t.Errorf("%s: %d bootstraps, want %d", name, n, want)
			}
			s.stop()
		}
	})
}
