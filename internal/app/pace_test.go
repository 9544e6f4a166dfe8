package app

import (
	"runtime/debug"
	"runtime/metrics"
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
		if got, _ := p.next(step.allocated); got != step.quiet {
			t.Fatalf("look %d, %d bytes: quiet is %v", i, step.allocated, got)
		}
	}
	if allocatedBytes() == 0 {
		t.Error("nothing was allocated so far: the metric is another one")
	}
}

// heldBytes is how much memory Go's heap has from the system.
func heldBytes() (n uint64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(sample)
	for _, s := range sample {
		n += s.Value.Uint64()
	}
	return n
}

// What a burst of load needed goes back to the system when it is over, though the process
// does not become quiet.
func TestMemoryOfABurstIsReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := debug.SetGCPercent(-1) // as for a heap so large that the collector runs seldom
		defer debug.SetGCPercent(before)
		some := func() {
			for range (quietBelow + busyFrom) / 2 >> 20 {
				sink = make([]byte, 1<<20)
			}
		}
		started, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		close(started)
		go func() { followPace(-1, started, done); close(ended) }()
		synctest.Wait()
		for i := range 8 * busyFrom >> 20 {
			if i == 4*busyFrom>>20 {
				wait(lookEvery) // it has been seen to be busy
			}
			sink = make([]byte, 1<<20)
		}
		some()
		wait(lookEvery)
		full := heldBytes()
		some()
		wait(lookEvery)
		if left := heldBytes(); left > full/2 {
			t.Errorf("%d MiB are held after a burst that took %d MiB", left>>20, full>>20)
		}
		close(done)
		<-ended
	})
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
		allocate := func(n int) {
			for range n >> 20 {
				sink = make([]byte, 1<<20)
			}
			wait(lookEvery)
		}
		started, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() { followPace(percent, started, done); close(ended) }()
		allocate(busyFrom)
		if got := current(); got != percent/quietShare {
			t.Errorf("%d percent while it starts", got)
		}
		close(started)
		synctest.Wait()
		allocate(busyFrom)
		if got := current(); got != percent {
			t.Errorf("%d percent under load", got)
		}
		wait(quietLooks * lookEvery)
		if got := current(); got != percent/quietShare {
			t.Errorf("%d percent while it is quiet", got)
		}
		close(done)
		<-ended
	})
}

// A node that waits for others, or one of whose vBuckets does not serve, has load even so.
func TestAStartEndsForTheCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const percent = 40
		before := debug.SetGCPercent(percent)
		defer debug.SetGCPercent(before)
		done, ended := make(chan struct{}), make(chan struct{})
		go func() { followPace(percent, nil, done); close(ended) }()
		wait(startPatience)
		for range busyFrom >> 20 {
			sink = make([]byte, 1<<20)
		}
		wait(lookEvery)
		if got := debug.SetGCPercent(percent); got != percent {
			t.Errorf("%d percent under load", got)
		}
		close(done)
		<-ended
	})
}
