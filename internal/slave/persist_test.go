package slave

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestChangeThatCannotBeKept has a change that the slave's engine cannot hold: the master does not
// send it again and again, nor what comes behind it, the log names it once, and nothing is confirmed
// until it is applied.
func TestChangeThatCannotBeKept(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		var tooLarge atomic.Bool
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) {
			o.State = &hinderedState{before: func() error {
				if tooLarge.Load() {
					return kv.Errorf(kv.Internal, "apply changes: %w: change 2", storage.ErrTooLarge)
				}
				return nil
			}}
		})
		s.has(m)
		tooLarge.Store(true)
		m.fill("k", 1000, 1000)
		time.Sleep(time.Minute)
		before := m.received()
		time.Sleep(time.Hour)
		// Heartbeats, and questions of how far the master is.
		if n := m.received() - before; n > 10_000_000 {
			t.Errorf("the master has sent %d bytes in an hour", n)
		}
		if n := strings.Count(r.logs.String(), cannotApply); n != 1 {
			t.Errorf("the log says so %d times", n)
		}
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "change 2") {
			t.Errorf("health: %v", err)
		}
		if p, ok := s.Puller.Progress(); ok {
			t.Errorf("it confirms %+v", p)
		}
		tooLarge.Store(false)
		s.has(m)
		testkit.Eventually(t, "it confirms again", func() bool { _, ok := s.Puller.Progress(); return ok })
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if st := s.Puller.Status(); st.Err != nil || st.Bootstraps != 1 || st.Switches != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestSealOfACopyThatCannotGoOn is not held up by what was confirmed as received and can never be applied.
func TestSealOfACopyThatCannotGoOn(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		var broken, confirmed atomic.Bool
		var s *copy
		s = r.slave(source.Fixed("m1:1"), mode, inFolder(t), func(o *Options, _ *follower.Options) {
			o.State = &hinderedState{before: func() error {
				if !broken.Load() {
					return nil
				}
				for !confirmed.Load() { // before it is known that it cannot be applied
					p, ok := s.Puller.Progress()
					confirmed.Store(ok && p.Received > p.Applied)
					time.Sleep(time.Millisecond)
				}
				return kv.Errorf(kv.Internal, "broken")
			}}
		})
		s.has(m)
		broken.Store(true)
		m.put("a", "2")
		time.Sleep(time.Minute)
		if !confirmed.Load() {
			t.Fatal("nothing was confirmed as received")
		}
		if err := s.Puller.Seal(t.Context(), "p1"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "it follows no master", func() bool { return s.Puller.Status().Phase == Sealed })
	})
}

// TestSnapshotThatCannotBeKept is not loaded again and again either, and health says why there is no copy.
func TestSnapshotThatCannotBeKept(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("k", 1000, 1000)
		m.kill()
		var tooLarge atomic.Bool
		s := r.slave(source.Fixed("m1:1"), mode, func(_ *Options, o *follower.Options) {
			o.Options.Open = func(string) (storage.Engine, error) {
				return memory.Open(memory.Options{OnWrite: func(*storage.Batch) error {
					if tooLarge.Load() {
						return storage.ErrTooLarge
					}
					return nil
				}})
			}
		})
		tooLarge.Store(true)
		m.revive()
		time.Sleep(time.Minute)
		before := m.received()
		time.Sleep(time.Hour)
		if n := m.received() - before; n > 200_000_000 {
			t.Errorf("the master has sent %d bytes in an hour", n)
		}
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), storage.ErrTooLarge.Error()) {
			t.Errorf("health: %v", err)
		}
		tooLarge.Store(false)
		s.has(m)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
	})
}
