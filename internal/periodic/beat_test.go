package periodic

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// onBeat runs f in a process that has a beat of 50 ms, which began 30 ms ago.
func onBeat(t *testing.T, f func(t *testing.T)) {
	t.Cleanup(func() { shared.Store(nil) })
	synctest.Test(t, func(t *testing.T) {
		Beat(50 * time.Millisecond)
		time.Sleep(30 * time.Millisecond)
		f(t)
	})
}

func TestWaitsOnABeatEndAtTheSameMoment(t *testing.T) {
	onBeat(t, func(t *testing.T) {
		begun := time.Now()
		var ends []time.Duration
		for range 2 {
			if !Wait(t.Context(), time.Second) {
				t.Fatal("the context has not ended")
			}
			ends = append(ends, time.Since(begun))
			time.Sleep(300 * time.Millisecond) // what is done takes a while
		}
		if ends[0] != 970*time.Millisecond || ends[1] != 1970*time.Millisecond {
			t.Errorf("waits ended after %v", ends)
		}
		if d := Until(0, 500*time.Millisecond); d != 200*time.Millisecond {
			t.Errorf("%v to the next half second of the beat", d)
		}
		if d := Until(3, 500*time.Millisecond); d != 350*time.Millisecond {
			t.Errorf("%v to the next half second of the beat for turn 3", d)
		}
	})
}

func TestTasksOfATurnAreInStepWithTheBeat(t *testing.T) {
	onBeat(t, func(t *testing.T) {
		begun := time.Now()
		calls := make([][]time.Duration, 3)
		for turn := range calls {
			tasks := Start(t.Context(), uint64(turn))
			defer tasks.Stop()
			tasks.Every(time.Second, func(context.Context) bool {
				calls[turn] = append(calls[turn], time.Since(begun))
				return false
			})
		}
		time.Sleep(1500 * time.Millisecond)
		for turn, first := range []time.Duration{970, 20, 70} {
			want := first * time.Millisecond
			if n := len(calls[turn]); n == 0 || calls[turn][0] != want || n > 1 && calls[turn][1] != want+time.Second {
				t.Errorf("turn %d was called after %v, not after %v", turn, calls[turn], want)
			}
		}
	})
}

func TestWithoutABeatAWaitTakesAllOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(123 * time.Millisecond)
		begun := time.Now()
		if !Wait(t.Context(), time.Second) || time.Since(begun) != time.Second {
			t.Errorf("it took %v", time.Since(begun))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if Wait(ctx, time.Second) {
			t.Error("a wait whose context has ended is said to have lasted")
		}
	})
}
