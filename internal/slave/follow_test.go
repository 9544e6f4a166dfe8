package slave

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/testkit"
)

// long is a time after which nothing changes any more by itself: twice the longest that a slave,
// its master or the pool waits for. Each second of it costs polls and questions.
const long = 10 * time.Minute

// modes runs a test once for each way to get changes, in a bubble of time.
func modes(t *testing.T, f func(t *testing.T, mode func(*Options, *follower.Options))) {
	for name, mode := range map[string]func(*Options, *follower.Options){"poll": polling, "stream": streaming} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, mode) })
		})
	}
}

func TestFollowsFromTheBeginning(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.fill("a", 1000, 100)
		s := r.slave(source.Fixed("m1:1"), mode)
		s.has(m)
		for range 5 {
			m.fill("b", 300, 10)
			m.fill("a", 300, 20)
			s.has(m)
		}
		time.Sleep(time.Second)
		st := s.Puller.Status()
		if st.LagChanges != 0 || st.Age > 700*time.Millisecond || st.Phase != Following || st.Bootstraps != 1 || st.Master != "m1:1" || st.Err != nil {
			t.Errorf("status %+v", st)
		}
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if at := s.Owner().Address; at != "m1:1" {
			t.Errorf("the leader is at %q", at)
		}
	})
}

// TestSwitchesMasters kills and revives masters in turn, under writes: nothing is
// lost or repeated, and nothing but the first snapshot is ever needed.
func TestSwitchesMasters(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twins := []*node{r.twin("m2:1", m), r.twin("m3:1", m)}
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{
			m.row(leader), twins[0].row(primary), twins[1].row(secondary),
		}, true)
		s := r.slave(rows, mode)
		s.has(m)
		for i := range 12 {
			followed := s.Puller.Status().Master
			r.nodes[followed].kill()
			m.fill(fmt.Sprint("k", i%3), 50, 10)
			for _, n := range twins {
				n.sync(m)
			}
			begun := time.Now()
			s.has(m)
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("%d: %v until it followed again", i, took)
			}
			r.nodes[followed].revive()
			time.Sleep(time.Duration(i) * time.Second)
		}
		if st := s.Puller.Status(); st.Switches < 6 || st.Bootstraps != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestLeavesASilentMaster has a master stop without breaking its connections.
func TestLeavesASilentMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		s := r.slave(source.Fixed("m2:1", "m1:1"), mode)
		s.has(m)
		if at := s.Puller.Status().Master; at != "m2:1" {
			t.Fatalf("it follows %s", at)
		}
		goOn := twin.hang()
		m.put("a", "2")
		begun := time.Now()
		s.has(m)
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("%v until it followed again", took)
		}
		goOn()
	})
}

// TestMastersThatTheRegistryLost: they do not reach it, and live. One of them is followed when the
// present one fails.
func TestMastersThatTheRegistryLost(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary)}, true)
		s := r.slave(rows, mode)
		s.has(m)
		rows.Set(nil, true)
		twin.kill()
		m.put("a", "2")
		s.has(m)
		if at := s.Puller.Status().Master; at != "m1:1" {
			t.Errorf("it follows %s", at)
		}
	})
}

func TestLeavesAMasterThatIsGone(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		twin := r.twin("m2:1", m)
		rows := source.NewRows("db")
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary)}, true)
		// Polls are close together, so that the end of a master is noticed well within the
		// second for which one that was gone is passed over.
		s := r.slave(rows, mode, func(o *Options, _ *follower.Options) { o.PollInterval = 100 * time.Millisecond })
		s.has(m)
		if at := s.Puller.Status().Master; at != "m2:1" {
			t.Fatalf("it follows %s", at)
		}
		// An empty registry is no reason to leave the master.
		rows.Set(nil, true)
		time.Sleep(time.Second)
		// Nor what it knew once.
		rows.Set([]*serverpb.RegionInfo{m.row(leader)}, false)
		time.Sleep(5 * time.Second)
		if at := s.Puller.Status().Master; at != "m2:1" {
			t.Fatalf("it follows %s", at)
		}
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(serverpb.RegionStatus_INACTIVE)}, true)
		m.put("a", "2")
		s.has(m)
		if at := s.Puller.Status().Master; at != "m1:1" {
			t.Errorf("it follows %s", at)
		}
		if at := s.Owner().Address; at != "m1:1" {
			t.Errorf("the leader is at %q", at)
		}
		// It is passed over for a while, also when it is back in a moment.
		twin.sync(m)
		third := r.twin("m3:1", m)
		busy := third.row(secondary)
		busy.Slaves = 10
		rows.Set([]*serverpb.RegionInfo{m.row(leader), twin.row(primary), busy}, true)
		m.kill()
		testkit.Eventually(r.t, "another one is followed", func() bool { st := s.Puller.Status(); return st.Phase == Following && st.Master != "m1:1" })
		if at := s.Puller.Status().Master; at != "m3:1" {
			t.Errorf("it follows %s, which was gone a moment ago", at)
		}
	})
}

// TestAllMastersDown starts without any, loses them later, and goes on when they are
// back.
func TestAllMastersDown(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		m.kill()
		s := r.slave(source.Fixed("m1:1"), mode)
		time.Sleep(time.Minute)
		if err := s.Healthy(); err == nil {
			t.Error("it is healthy without data")
		}
		if n := strings.Count(r.logs.String(), "bootstrapping from a snapshot"); n > 1 {
			t.Errorf("that it bootstraps was logged %d times, and nothing has changed", n)
		}
		m.revive()
		begun := time.Now()
		s.has(m)
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("%v until the master was found", took)
		}
		m.kill()
		time.Sleep(4 * time.Second)
		if err := s.Healthy(); err != nil {
			t.Errorf("shortly after the last contact: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := s.Healthy(); err == nil {
			t.Error("it is healthy, though no master has answered for more than 10 intervals")
		}
		if age := s.Puller.Status().Age; age < 5*time.Second {
			t.Errorf("age %v", age)
		}
		m.revive()
		m.put("a", "2")
		s.has(m)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

// TestReaderWantsMore has a polling slave ask at once for what a reader waits for.
func TestReaderWantsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		s := r.slave(source.Fixed("m1:1"), func(o *Options, _ *follower.Options) { o.PollInterval = time.Hour })
		s.has(m)
		at := m.put("a", "1")
		begun := time.Now()
		p, _, info, err := s.Get(t.Context(), []byte("a"), kv.ReadOptions{MinIndex: at})
		if took := time.Since(begun); err != nil || string(p.Value) != "1" || took > time.Second {
			t.Errorf("%q, %v after %v", p.Value, err, took)
		}
		time.Sleep(time.Minute)
		_, _, info, err = s.Get(t.Context(), []byte("a"), kv.ReadOptions{MaxAge: 2 * time.Second})
		if err != nil || info.Age > 2*time.Second {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// hinderedState is a State whose Apply a test holds up.
type hinderedState struct {
	*follower.Replica
	before func() error
}

func (h *hinderedState) wrap(f *follower.Replica) { h.Replica = f }

func (h *hinderedState) Apply(ctx context.Context, after kv.Index, changes []kv.Change, upTo kv.Index) error {
	if err := h.before(); err != nil {
		return err
	}
	return h.Replica.Apply(ctx, after, changes, upTo)
}

// TestDiskFull has the slave's disk fill up: it waits, serves what it has, and goes
// on by itself.
func TestDiskFull(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		var full atomic.Bool
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) {
			o.State = &hinderedState{before: func() error {
				if full.Load() {
					return kv.Errorf(kv.Exhausted, "%w: at %v", storage.ErrNoSpace, time.Now())
				}
				return nil
			}}
		})
		s.has(m)
		full.Store(true)
		m.fill("k", 200, 10)
		time.Sleep(time.Minute)
		if st := s.Puller.Status(); !errors.Is(st.Err, storage.ErrNoSpace) || st.LagChanges == 0 {
			t.Errorf("status %+v", st)
		}
		if n := strings.Count(r.logs.String(), "disk is full"); n != 1 {
			t.Errorf("it was logged %d times", n)
		}
		if err := s.Healthy(); !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("health: %v", err)
		}
		before := s.Puller.Status().LagChanges
		m.fill("more", 200, 10)
		time.Sleep(2 * time.Second)
		if st := s.Puller.Status(); st.LagChanges <= before || st.Contact > time.Second {
			t.Errorf("it does not hear of its master any more: %+v", st)
		}
		full.Store(false)
		s.has(m)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if st := s.Puller.Status(); st.Err != nil || st.Bootstraps != 1 || st.Switches != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestLocalFailure has applying fail for a while: no master is to blame for that.
func TestLocalFailure(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		r.twin("m2:1", m)
		var broken atomic.Bool
		s := r.slave(source.Fixed("m1:1", "m2:1"), mode, func(o *Options, _ *follower.Options) {
			o.State = &hinderedState{before: func() error {
				if broken.Load() {
					return kv.Errorf(kv.Internal, "broken")
				}
				return nil
			}}
		})
		s.has(m)
		broken.Store(true)
		m.put("a", "2")
		time.Sleep(time.Minute)
		if st := s.Puller.Status(); st.Err == nil || st.Switches != 0 {
			t.Errorf("status %+v", st)
		}
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("health: %v", err)
		}
		broken.Store(false)
		s.has(m)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		if st := s.Puller.Status(); st.Err != nil || st.Switches != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestSlowSlave holds up the slave: what waits for it is bounded, and the master does
// not notice.
func TestSlowSlave(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		gate := make(chan struct{})
		var held atomic.Bool
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, _ *follower.Options) {
			o.State = &hinderedState{before: func() error {
				if held.Load() {
					<-gate
				}
				return nil
			}}
		})
		s.has(m)
		held.Store(true)
		before := m.received()
		const total = 48 << 20
		m.fill("k", 4800, total/4800)
		time.Sleep(time.Minute)
		if got := m.received() - before; got > total*2/3 {
			t.Errorf("%d MiB of %d were taken in while none could be applied", got>>20, total>>20)
		}
		held.Store(false)
		close(gate)
		s.has(m)
		if st := s.Puller.Status(); st.Switches != 0 || st.Bootstraps != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// A slave goes by its master's clock and not by its own, which is years ahead.
func TestGoesByTheMastersClock(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m1:1")
		m.write(kv.Mutation{Key: []byte("session"), Value: []byte("alive"), ExpireTS: uint64(time.Now().Add(long).Unix())})
		c := NewClock(clock.Options{Wall: func() time.Time { return time.Now().Add(decade) }})
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, f *follower.Options) { o.Clock, f.Clock = c, c })
		s.has(m)
		time.Sleep(2 * time.Second)
		if !s.sees("session") || !c.Known() || time.Until(c.Now()) > clock.DefaultMaxJump {
			t.Errorf("the session is seen: %v; by a clock that says %v", s.sees("session"), c.Now())
		}
		time.Sleep(long)
		if s.sees("session") {
			t.Error("it never expires")
		}
	})
}

// If the master's log is given another time, a slave follows, even if nothing else
// happens there.
func TestFollowsTheClockBack(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		var ahead atomic.Int64
		m := r.master("m1:1", func(o *local.Options) {
			o.Clock = clock.New(clock.Options{MaxJump: 2 * decade, Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
		})
		m.write(kv.Mutation{Key: []byte("session"), Value: []byte("alive"), ExpireTS: uint64(time.Now().Add(time.Hour).Unix())})
		if _, err := m.Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: true}); err != nil {
			t.Fatal(err) // so that nothing is removed
		}
		c := NewClock(clock.Options{})
		s := r.slave(source.Fixed("m1:1"), mode, func(o *Options, f *follower.Options) { o.Clock, f.Clock = c, c })
		s.has(m)
		ahead.Store(int64(decade))
		if _, err := m.Propose(t.Context(), &command.Command{Kind: command.Tick}); err != nil {
			t.Fatal(err)
		}
		s.has(m)
		time.Sleep(time.Second)
		if s.sees("session") {
			t.Fatal("it has not expired")
		}
		ahead.Store(0)
		if err := m.SetClock(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		s.has(m)
		time.Sleep(time.Second)
		if !s.sees("session") {
			t.Errorf("it is still hidden: by the log's clock it is %v", s.Replica.Status().Clock)
		}
	})
}

const decade = 10 * 365 * 24 * time.Hour

// sees reports whether a reader of the copy finds a key.
func (c *copy) sees(key string) bool {
	c.rig.t.Helper()
	_, found, _, err := c.Get(context.Background(), []byte(key), kv.ReadOptions{})
	if err != nil {
		c.rig.t.Fatal(err)
	}
	return found
}
