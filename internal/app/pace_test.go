package app

import (
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestAProcessIsQuietAfterAWhileAndBusyAtOnce(t *testing.T) {
	const little, some, much = quietBelow / 2, (quietBelow + busyFrom) / 2, 2 * busyFrom
	var p pace
	for i, step := range []struct {
		allocated uint64
		quiet     bool
	}{
		{little, false}, {little, false}, {some, false}, // not long enough
		{little, false}, {little, false}, {little, true},
		{some, true}, {little, true}, {much, false}, {some, false}, {little, false},
	} {
		if got := p.next(step.allocated); got != step.quiet {
			t.Fatalf("look %d, %d bytes: quiet is %v", i, step.allocated, got)
		}
	}
	if allocatedBytes() == 0 {
		t.Error("nothing was allocated so far: the metric is another one")
	}
}

// sink keeps allocations from being optimised away.
var sink []byte

// wait lets time pass in a bubble, and what is due then happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A node without load leaves the collector a fraction of the garbage, and a node with load
// all of it.
func TestAQuietProcessKeepsLittleGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const percent = 40
		before := debug.SetGCPercent(percent)
		defer debug.SetGCPercent(before)
		current := func() int {
			now := debug.SetGCPercent(percent)
			debug.SetGCPercent(now)
			return now
		}
		done, ended := make(chan struct{}), make(chan struct{})
		go func() { followPace(percent, done); close(ended) }()
		wait(quietLooks * lookEvery)
		if got := current(); got != percent/quietShare {
			t.Errorf("%d percent while it is quiet", got)
		}
		for range busyFrom >> 20 {
			sink = make([]byte, 1<<20)
		}
		wait(lookEvery)
		if got := current(); got != percent {
			t.Errorf("%d percent under load", got)
		}
		close(done)
		<-ended
	})
}
