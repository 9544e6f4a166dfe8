package slave

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/slave/source"
)

// passedOver is for how long a source that has failed is passed over at most.
const passedOver = 30 * time.Second

// aheadClock is a clock that is a decade ahead.
func aheadClock() *clock.Clock {
	return clock.New(clock.Options{Wall: func() time.Time { return time.Now().Add(decade) }})
}

func decadeAhead(o *local.Options) { o.Clock = aheadClock() }

// clocked is a master with a key that lives for some time, and a slave with a clock.
func clocked(t *testing.T, r *rig, sources Sources, mode func(*Options, *follower.Options)) (m *node, s *copy, check func(what string)) {
	m = r.master("m1:1")
	m.write(kv.Mutation{Key: []byte("session"), Value: []byte("alive"), ExpireTS: uint64(time.Now().Add(long).Unix())})
	c := NewClock(clock.Options{})
	s = r.slave(sources, mode, func(o *Options, f *follower.Options) { o.Clock, f.Clock = c, c })
	s.has(m)
	return m, s, func(what string) {
		t.Helper()
		if !s.sees("session") || time.Until(c.Now()) > clock.DefaultMaxJump {
			t.Errorf("%s: the session is seen: %v; by a clock that says %v", what, s.sees("session"), c.Now())
		}
	}
}

// reads reads a copy for some time: a clock never goes back behind what it has told a reader.
func (c *copy) reads(d time.Duration) {
	for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		c.sees("session")
	}
}

// A slave goes by the clock of the master that it follows, and not by that of a node of another
// cluster that it asks while the master is away, or beside it.
func TestHearsNoOtherClock(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m, s, check := clocked(t, r, source.Fixed("m2:1", "m1:1"), mode)
		foreign := r.master("m2:1", decadeAhead)
		foreign.put("a", "1")
		m.kill()
		s.reads(5 * time.Second)
		asked := foreign.received()
		if asked == 0 {
			t.Fatal("the other node was not asked")
		}
		m.revive()
		m.put("a", "1")
		s.has(m)
		s.reads(time.Second)
		check("asked while the master was away")
		s.reads(longest + passedOver)
		if foreign.received() == asked {
			t.Fatal("the other node was not asked beside the master")
		}
		check("asked beside the master")
	})
}

// Nor does it go by the clock of what answers at the address of the master that it follows, if that
// has another log by now.
func TestHearsNoOtherClockAtTheMastersAddress(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m, s, check := clocked(t, r, source.Fixed("m1:1"), mode)
		m.kill()
		foreign := r.master("m1:1", decadeAhead)
		foreign.put("a", "1")
		time.Sleep(5 * time.Second)
		if foreign.received() == 0 {
			t.Fatal("the other node was not asked")
		}
		check("another node at its address")
		s.equals(m)
	})
}

// Nor by that of a node with the same log that it does not follow, as one that is behind.
func TestHearsNoClockOfAMasterBehind(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m, s, check := clocked(t, r, source.Fixed("m2:1", "m1:1"), mode)
		opts := r.options()
		opts.Clock = aheadClock()
		behind := r.follower(follower.Options{Options: opts})
		if err := behind.Replace(t.Context(), false, loadFrom(m)); err != nil {
			t.Fatal(err)
		}
		m.put("a", "1")
		s.has(m)
		asked := r.serve("m2:1", behind)
		s.reads(longest + passedOver)
		if asked.received() == 0 {
			t.Fatal("the other node was not asked")
		}
		check("asked beside the master")
	})
}

// A slave whose master was ahead of time, and is set right by an operator, does not hide what is alive:
// also if nothing was written at the wrong time, so that the log does not show it.
func TestFollowsAnIdleMasterBack(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		var ahead atomic.Int64
		theirs := clock.New(clock.Options{Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		m := r.master("m1:1", func(o *local.Options) { o.Clock = theirs })
		m.put("a", "1")
		c := NewClock(clock.Options{})
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, f *follower.Options) { o.Clock, f.Clock = c, c })
		s.has(m)
		ahead.Store(int64(10 * time.Minute))
		for range 600 { // as fast as a node alone follows
			theirs.Now()
			s.sees("a")
			time.Sleep(time.Second)
		}
		if off := time.Until(c.Now()); off < 9*time.Minute {
			t.Fatalf("the slave is ahead by %v only", off)
		}
		ahead.Store(0)
		if err := m.SetClock(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		m.write(kv.Mutation{Key: []byte("session"), Value: []byte("alive"), ExpireTS: uint64(time.Now().Add(5 * time.Minute).Unix())})
		s.has(m)
		time.Sleep(2 * time.Second)
		if !s.sees("session") || time.Until(c.Now()) > clock.DefaultMaxJump {
			t.Errorf("the session is seen: %v; by a clock that says %v", s.sees("session"), c.Now())
		}
	})
}
