package slave

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/slave/source"
)

// TestMasterWithoutAnotherStream has slaves beyond the streams that a master admits ask for changes: they
// have all of them, and follow by a stream again later.
func TestMasterWithoutAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.streams = 1
		m := r.master("m1:1")
		m.put("a", "1")
		two := r.slave(source.Fixed("m1:1"), polling)
		two.has(m)
		one := r.slave(source.Fixed("m1:1"), streaming)
		one.has(m)
		time.Sleep(10 * time.Second) // its stream has a place, which that of its snapshot had a moment before
		two.opts.Mode = Stream
		two.restart()
		time.Sleep(10 * time.Second)
		asked := m.statuses.Load()
		m.put("b", "2")
		time.Sleep(time.Minute)
		for i, s := range []*copy{one, two} {
			s.has(m)
			if err := s.Healthy(); err != nil {
				t.Errorf("slave %d: %v", i+1, err)
			}
			if st := s.Puller.Status(); st.Mode != []Mode{Stream, Poll}[i] || st.Phase != Following || st.Err != nil {
				t.Errorf("slave %d: %+v", i+1, st)
			}
		}
		if n := m.statuses.Load() - asked; n > 3*60 {
			t.Errorf("the master was asked %d times about itself in a minute", n)
		}
		one.stop()
		time.Sleep(2 * crowdedFor)
		m.put("c", "3")
		two.has(m)
		if st := two.Puller.Status(); st.Mode != Stream || two.Healthy() != nil {
			t.Errorf("with room for its stream: %+v, %v", st, two.Healthy())
		}
	})
}

// TestAnotherMasterHasRoomForTheStream: a slave goes on to that one, and asks none for changes.
func TestAnotherMasterHasRoomForTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.streams = 1
		m := r.master("m1:1")
		m.put("a", "1")
		r.twin("m2:1", m)
		one := r.slave(source.Fixed("m1:1"), streaming)
		one.has(m)
		time.Sleep(10 * time.Second)
		two := r.slave(source.Fixed("m1:1", "m2:1"), polling)
		two.has(m)
		two.opts.Mode = Stream
		two.restart()
		time.Sleep(2 * time.Second)
		if st := two.Puller.Status(); st.Mode != Stream || st.Master != "m2:1" || st.Phase != Following {
			t.Errorf("%+v", st)
		}
	})
}
