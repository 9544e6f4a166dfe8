package slave

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// failedState is a State whose storage has failed when a test says so.
type failedState struct {
	*follower.Replica
	failed atomic.Bool
}

func (f *failedState) wrap(to *follower.Replica) { f.Replica = to }

var errFailed = errors.New("storage failed for a test")

func (f *failedState) Failure() error {
	if f.failed.Load() {
		return errFailed
	}
	return nil
}

func TestHealthOfAFailedState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := r.master("m1:1")
		m.put("a", "1")
		state := new(failedState)
		s := r.slave(source.Fixed("m1:1"), streaming, func(o *Options, _ *follower.Options) { o.State = state })
		s.has(m)
		time.Sleep(time.Second)
		if err := s.Healthy(); err != nil {
			t.Error(err)
		}
		state.failed.Store(true)
		if err := s.Healthy(); !errors.Is(err, errFailed) {
			t.Errorf("health: %v", err)
		}
	})
}

// TestHealthOfProgress has a slave that hears of its master be behind: that is a fault
// only where it makes no progress for long, however long nothing was to be applied.
func TestHealthOfProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTracker(new(signal.Signal))
		at := kv.Index(1)
		stuck := func(want time.Duration) {
			t.Helper()
			if got := tr.stuckFor(); got != want {
				t.Errorf("stuck for %v, want %v", got, want)
			}
		}
		time.Sleep(time.Hour)
		tr.heard(1, at, 0)
		stuck(0)
		tr.heard(5, at, 0)
		time.Sleep(time.Second)
		tr.heard(6, at, 0)
		stuck(time.Second)
		tr.applied(3)
		stuck(0)
		time.Sleep(time.Second)
		stuck(time.Second)
		tr.applied(6)
		time.Sleep(time.Hour)
		stuck(0)
		tr.heard(7, 6, 0)
		time.Sleep(time.Second)
		stuck(time.Second)
		tr.level()
		stuck(0)
	})
}

// TestErrOfStatus has errors be over with what cures them.
func TestErrOfStatus(t *testing.T) {
	tr := newTracker(new(signal.Signal))
	local, remote := localError{errors.New("broken")}, errors.New("unreachable")
	want := func(want error) {
		t.Helper()
		if got := tr.s.Err; got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	tr.failing(remote)
	want(remote)
	tr.following("m1:1")
	want(nil)
	tr.failing(local)
	tr.failing(remote)
	tr.following("m2:1")
	want(local) // another master does not cure it
	tr.applied(1)
	want(nil)
	tr.failing(local)
	tr.level()
	want(nil)
	tr.failing(remote)
	tr.failing(local)
	tr.bootstrapped()
	want(nil)
}

// TestReportsOnce has causes that take turns be logged once each, until it is over.
func TestReportsOnce(t *testing.T) {
	r := newRig(t)
	p := New(Options{VBucket: "v", Log: r.log})
	for range 10 {
		p.report("one", nil, "master", "a")
		p.report("one", nil, "master", "b")
		p.report("two", errors.New("cause"))
	}
	if n := strings.Count(r.logs.String(), "\n"); n != 3 {
		t.Errorf("%d lines", n)
	}
	p.recovered()
	p.report("two", errors.New("cause"))
	if n := strings.Count(r.logs.String(), "\n"); n != 4 {
		t.Errorf("%d lines", n)
	}
}

// TestWatchdogRecovers has patience that a slow message has cost be over with one that
// comes in time.
func TestWatchdogRecovers(t *testing.T) {
	w := &watchdog{patient: maxPatience, least: minPatience}
	w.arrived(5 * time.Second) // the line is slow
	if w.patient != maxPatience {
		t.Errorf("patient for %v on a slow line", w.patient)
	}
	w.arrived(400 * time.Millisecond)
	if w.patient != minPatience {
		t.Errorf("patient for %v", w.patient)
	}
}

// TestPullerSignalsChanges: what waits for a change of the status looks again after each
// one that may make a copy healthy or not.
func TestPullerSignalsChanges(t *testing.T) {
	changed := new(signal.Signal)
	tr := newTracker(changed)
	for name, change := range map[string]func(){
		"searching":     func() { tr.search("") },
		"following":     func() { tr.following("a:1") },
		"bootstrapping": func() { tr.bootstrapping("a:1") },
		"bootstrapped":  tr.bootstrapped,
		"heard":         func() { tr.heard(7, 6, 0) },
		"kept":          func() { tr.keep(&kept{reason: "another history"}) },
		"applied":       func() { tr.applied(7) },
		"level":         tr.level,
		"failing":       func() { tr.failing(errFailed) },
	} {
		c := changed.Changed()
		change()
		select {
		case <-c:
		default:
			t.Errorf("%s: nothing is signalled", name)
		}
	}
}

// A machine that has slept has not heard of its master meanwhile.
func TestContactCountsSleep(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	s := r.slave(source.Fixed("m1:1"))
	s.has(m)
	s.stop()
	s.Puller.status.contact = testkit.Suspended(t, time.Now(), time.Hour)
	if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "has heard of no master for 1h") {
		t.Errorf("health: %v", err)
	}
}

// A slave that cannot bootstrap says why, and not only that it does.
func TestFailedBootstrapSaysWhy(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	s := r.slave(source.Fixed("m1:1"))
	s.has(m)
	s.stop()
	s.Puller.status.bootstrapping("m1:1")
	for err, want := range map[error]string{
		nil:       "vBucket default is bootstrapping from m1:1: 0 MiB of about 0",
		errFailed: "vBucket default is bootstrapping from m1:1 again, 0 MiB of about 0, after this error: " + errFailed.Error(),
	} {
		s.Puller.status.s.Err = err
		if got := s.Healthy(); got == nil || !strings.HasSuffix(got.Error(), want[len("vBucket default"):]) {
			t.Errorf("health: %v, want %s", got, want)
		}
	}
}
