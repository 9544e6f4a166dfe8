package slave

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// isAged fails the test unless the status, the state and the answer to a reader all give
// an age between two bounds, and the status so many changes of lag.
func (c *copy) isAged(what string, least, most time.Duration, lag uint64) {
	c.rig.t.Helper()
	st := c.Puller.Status()
	_, _, info, err := c.Get(c.rig.t.Context(), []byte("a"), kv.ReadOptions{})
	if err != nil {
		c.rig.t.Error(err)
	}
	for of, age := range map[string]time.Duration{"the status": st.Age, "the state": c.Replica.Age(), "a reader": info.Age} {
		if age < least || age > most {
			c.rig.t.Errorf("%s: the age of %s is %v, not %v to %v", what, of, age, least, most)
		}
	}
	if st.LagChanges != lag {
		c.rig.t.Errorf("%s: %d changes behind, not %d", what, st.LagChanges, lag)
	}
}

// polled is how old a copy may be at most whose master is current: by one poll, or one
// question beside the stream.
const polled = 600 * time.Millisecond

// TestAgeIsTrue has the age of a copy be for how long it may not have been the newest
// state any more, whatever becomes of its master.
func TestAgeIsTrue(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		for range 10 {
			time.Sleep(37 * time.Second)
			s.isAged("an idle master", 0, polled, 0)
		}
		m.kill()
		time.Sleep(long)
		s.isAged("no master", long, long+polled, 0)
		m.put("a", "2")
		m.revive()
		s.has(m)
		time.Sleep(time.Second)
		s.isAged("it is back", 0, polled, 0)
		s.stop()
		s.restart()
		s.has(m)
		time.Sleep(time.Second)
		s.isAged("a restart", 0, polled, 0)
	})
}

// TestAgeBehindACutOffMaster has a master live on that is cut off from the owner of its
// log, and a slave of a slave: what was not known there is not known here.
func TestAgeBehindACutOffMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		first := r.slave(source.Fixed("m1:1"), mode)
		first.has(m)
		r.serve("s1:1", first.Replica)
		second := r.slave(source.Fixed("s1:1"), mode)
		second.has(m)
		time.Sleep(2 * time.Second)
		second.isAged("all is well", 0, 2*polled, 0)
		m.kill()
		time.Sleep(long)
		first.isAged("the master is away", long, long+polled, 0)
		second.isAged("its master's master is away", long, long+2*polled, 0)
		m.put("a", "2") // that is known nowhere here
		m.revive()
		second.has(m)
		time.Sleep(2 * time.Second)
		second.isAged("it is back", 0, 2*polled, 0)
	})
}

// TestLagOfABootstrap has a copy that is being built be behind by all that there is.
func TestLagOfABootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 3000, 2000) // 6 MB
		m.cutAfter(2_500_000)
		s := r.slave(source.Fixed("m1:1"), streaming)
		for s.Puller.Status().Snapshot.Bytes == 0 {
			time.Sleep(time.Millisecond)
		}
		if st := s.Puller.Status(); st.LagChanges != m.Replica.Status().Applied || st.Age < time.Hour {
			t.Errorf("status %+v", st)
		}
		m.cutAfter(0)
		s.has(m)
		time.Sleep(time.Second)
		if st := s.Puller.Status(); st.LagChanges != 0 || st.Age > polled {
			t.Errorf("status %+v", st)
		}
	})
}

// TestLagOfAKeptCopy has a copy whose master is another cluster's be as old as it is, and
// know nothing of changes that it lacks.
func TestLagOfAKeptCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		s := r.slave(source.Fixed("m1:1"), streaming)
		s.has(m)
		other := r.wiped(m)
		other.fill("k", 1000, 10)
		time.Sleep(long)
		s.isAged("another cluster's master", long, long+polled, 0)
	})
}
