package slave

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/testkit"
)

// goBack gives a twin an earlier state of the same history and other changes behind
// it, up to an index: as a master whose last writes were lost in a crash.
func (n *node) goBack(to *node, upTo kv.Index) {
	n.rig.t.Helper()
	f := n.Replica.(*follower.Replica)
	if err := f.Replace(context.Background(), true, loadFrom(to)); err != nil {
		n.rig.t.Fatal(err)
	}
	_, at := f.Position()
	var changes []kv.Change
	for i := at + 1; i <= upTo; i++ {
		changes = append(changes, kv.Change{Index: i, Clock: kv.ClockOf(time.Now()), Mutations: []kv.Mutation{{Key: []byte("k"), Value: []byte("other")}}})
	}
	if err := f.Apply(context.Background(), at, changes, upTo); err != nil {
		n.rig.t.Fatal(err)
	}
	f.Fresh(time.Now())
}

// TestLogGoesBackBetweenPolls has a master lose its last changes between two polls, and
// have as many others, or none, or more: no slave takes that for what comes next.
func TestLogGoesBackBetweenPolls(t *testing.T) {
	for name, tc := range map[string]struct {
		upTo kv.Index
		// fresh tells that the slave has bootstrapped and knows of no change yet.
		fresh bool
	}{"shorter": {1, false}, "as long": {5, false}, "longer": {9, false}, "fresh": {1, true}, "fresh, longer": {9, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				m := r.master("m1:1")
				m.put("k", "1")
				old, twin := r.twin("old:1", m), r.twin("m2:1", m)
				begin := func() *copy {
					return r.slave(source.Fixed("m2:1"), func(o *Options, _ *follower.Options) { o.PollInterval = 10 * time.Second })
				}
				var s *copy
				if !tc.fresh {
					s = begin()
					s.has(m)
				}
				for range 4 {
					m.put("k", "2")
				}
				twin.sync(m)
				if tc.fresh {
					s = begin()
				}
				s.has(m)
				time.Sleep(time.Second)
				was := s.Replica.Age()
				twin.goBack(old, tc.upTo)
				begun := time.Now()
				time.Sleep(11 * time.Second)
				if got, least := s.Replica.Age(), was+time.Since(begun); got < least {
					t.Errorf("the age is %v, and nothing new was heard for %v", got, least)
				}
				p, _, _, err := s.Get(t.Context(), []byte("k"), kv.ReadOptions{})
				if err != nil || string(p.Value) != "2" {
					t.Errorf("%q, %v", p.Value, err)
				}
				// Even if that is all that there is, only an operator gives up what is here.
				testkit.Run(r.t, func(ctx context.Context) error {
					for sleep.For(ctx, 100*time.Millisecond) {
						twin.Replica.(*follower.Replica).Fresh(time.Now())
					}
					return nil
				})
				time.Sleep(time.Minute)
				s.resync()
				testkit.Eventually(r.t, "the slave has what the master has", func() bool { return s.Puller.Status().Bootstraps == 2 })
				s.equals(twin)
			})
		})
	}
}

// TestConfirmsLargeChange has the last change be too large to be asked for again
// without need.
func TestConfirmsLargeChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("k", "1")
		s := r.slave(source.Fixed("m1:1"), polling)
		s.has(m)
		m.put("k", string(make([]byte, 4*confirmBytes)))
		s.has(m)
		before := m.received()
		time.Sleep(time.Minute)
		if got := m.received() - before; got > confirmBytes {
			t.Errorf("%d bytes were sent, although nothing has changed", got)
		}
		m.put("k", "2")
		s.has(m)
		if got := m.received() - before; got < 4*confirmBytes {
			t.Errorf("%d bytes were sent: what came next was not confirmed", got)
		}
		if st := s.Puller.Status(); st.Bootstraps != 1 || st.Switches != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestReaderWaitsForAMasterBehind has a reader want what the followed master has not
// got yet: it is asked again, and not with the next poll only.
func TestReaderWaitsForAMasterBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m2:1"), func(o *Options, _ *follower.Options) { o.PollInterval = time.Hour })
		s.has(m)
		at := m.put("a", "2")
		time.AfterFunc(100*time.Millisecond, func() { twin.sync(m) })
		begun := time.Now()
		p, _, _, err := s.Get(t.Context(), []byte("a"), kv.ReadOptions{MinIndex: at})
		if took := time.Since(begun); err != nil || string(p.Value) != "2" || took > time.Second {
			t.Errorf("%q, %v after %v", p.Value, err, took)
		}
		time.Sleep(time.Minute)
		time.AfterFunc(300*time.Millisecond, func() { twin.sync(m) })
		begun = time.Now()
		_, _, _, err = s.Get(t.Context(), []byte("a"), kv.ReadOptions{MaxAge: time.Second})
		if took := time.Since(begun); err != nil || took > time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestMasterKnowsPosition compares what a master says of a slave with where it is.
func TestMasterKnowsPosition(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		if _, err := m.Propose(t.Context(), setSlave("dc1", "slave:1")); err != nil {
			t.Fatal(err)
		}
		s := r.slave(source.Fixed("m1:1"), mode)
		for range 3 {
			m.fill("k", 300, 10)
			s.has(m)
			time.Sleep(time.Second)
			p, err := r.pool.Peer("m1:1")
			if err != nil {
				t.Fatal(err)
			}
			resp := new(serverpb.GetReplicasResponse)
			if err := p.Invoke(t.Context(), serverpb.DKVReplication_GetReplicas_FullMethodName, new(serverpb.GetReplicasRequest), resp); err != nil {
				t.Fatal(err)
			}
			_, at := s.Position()
			if got := resp.GetReplicas(); len(got) != 1 || got[0].GetChangeNumber() != at {
				t.Errorf("%v, and the slave is at %d", got, at)
			}
		}
	})
}
