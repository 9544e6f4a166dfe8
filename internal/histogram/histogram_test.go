package histogram

import (
	"testing"
	"time"
)

func TestDurationsAreCountedUpToTheirBound(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-1: 0, 0: 0, Least: 0, Least + 1: 1, 2 * Least: 1, 2*Least + 1: 2, 3 * Least: 2, 4 * Least: 2, 4*Least + 1: 3,
		Bound(Buckets - 2): Buckets - 2, Bound(Buckets-2) + 1: Buckets - 1, time.Hour: Buckets - 1,
	} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{Least, Least, 3 * Least, time.Hour} {
		h.Observe(d)
	}
	c := h.Counts()
	if c.Total() != 4 || c.Sum != time.Hour+5*Least {
		t.Errorf("%d durations, %v together", c.Total(), c.Sum)
	}
	twice := c
	if twice.Add(&c); twice.Total() != 8 || twice.Sum != 2*c.Sum || twice.In[0] != 4 {
		t.Errorf("added to itself: %+v", twice)
	}
	by := c.Cumulative()
	for bound, want := range map[time.Duration]uint64{Bound(0): 2, Bound(1): 2, Bound(2): 3, Bound(Buckets - 2): 3} {
		if got := by[bound.Seconds()]; got != want {
			t.Errorf("%d durations up to %v, want %d", got, bound, want)
		}
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
