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
