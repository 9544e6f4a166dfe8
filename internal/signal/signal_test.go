package signal

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestRaiseClosesWhatWasTakenBefore(t *testing.T) {
	var s Signal
	s.Raise() // no one waits
	first := s.Changed()
	if closed(first) {
		t.Fatal("a Raise before Changed was remembered")
	}
	if s.Changed() != first {
		t.Error("two receivers between two calls of Raise have different channels")
	}
	s.Raise()
	if !closed(first) {
		t.Fatal("Raise did not close the channel")
	}
	if closed(s.Changed()) {
		t.Error("the channel taken after a Raise is closed before the next one")
	}
	s.Raise()
	s.Raise() // closes nothing twice
}

func TestRaiseWakesEveryReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Signal
		var woken atomic.Int32
		for range 5 {
			changed := s.Changed()
			go func() {
				<-changed
				woken.Add(1)
			}()
		}
		synctest.Wait()
		if n := woken.Load(); n != 0 {
			t.Fatalf("%d receivers were woken before Raise", n)
		}
		s.Raise()
		synctest.Wait()
		if n := woken.Load(); n != 5 {
			t.Errorf("%d of 5 receivers were woken", n)
		}
	})
}

// TestNoChangeIsMissed: receivers that take the channel before they look always see the
// last value, however their steps fall between those of the senders. One that missed a
// change would wait for ever, which synctest reports as a deadlock.
func TestNoChangeIsMissed(t *testing.T) {
	const senders, steps = 4, 500
	synctest.Test(t, func(t *testing.T) {
		var s Signal
		var value atomic.Int64
		var all sync.WaitGroup
		for range senders {
			all.Go(func() {
				for range steps {
					value.Add(1)
					s.Raise()
				}
			})
			all.Go(func() {
				for {
					changed := s.Changed()
					if value.Load() == senders*steps {
						return
					}
					<-changed
				}
			})
		}
		all.Wait()
	})
}

func TestRaiseWithoutReceiversAllocatesNothing(t *testing.T) {
	var s Signal
	if n := testing.AllocsPerRun(100, s.Raise); n != 0 {
		t.Errorf("Raise allocates %v times", n)
	}
}
