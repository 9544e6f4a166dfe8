// Package histogram counts durations in buckets, without locks and without allocations.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// Least is the upper bound of the first bucket; each bucket's bound is twice that of the
	// one before.
	Least = 50 * time.Microsecond
	// Buckets is the number of buckets; the last one has no bound.
	Buckets = 17
)

// Bound returns the upper bound of a bucket other than the last.
func Bound(bucket int) time.Duration { return Least << bucket }

// bucketOf returns the bucket of a duration.
func bucketOf(d time.Duration) int {
	if d <= Least {
		return 0
	}
	return min(bits.Len64(uint64((d-1)/Least)), Buckets-1)
}

// Counts are the durations that were counted.
type Counts struct {
	// In has the number of durations by bucket, not cumulative.
	In [Buckets]uint64
	// Sum is all durations together.
	Sum time.Duration
}

// Add adds what others have counted.
func (c *Counts) Add(other *Counts) {
	for i, n := range other.In {
		c.In[i] += n
	}
	c.Sum += other.Sum
}

// Total is the number of durations.
func (c *Counts) Total() (n uint64) {
	for _, in := range c.In {
		n += in
	}
	return n
}

// Cumulative returns the numbers of durations by upper bound in seconds, each with those
// of the smaller bounds, as Prometheus has them.
func (c *Counts) Cumulative() map[float64]uint64 {
	out := make(map[float64]uint64, Buckets-1)
	var n uint64
	for i := range Buckets - 1 {
		n += c.In[i]
		out[Bound(i).Seconds()] = n
	}
	return out
}

// Histogram counts durations. Its zero value is ready to use, and it is safe for concurrent
// use.
type Histogram struct {
	in  [Buckets]atomic.Uint64
	sum atomic.Int64
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	h.in[bucketOf(d)].Add(1)
	h.sum.Add(int64(d))
}

// Counts returns what was counted.
func (h *Histogram) Counts() (c Counts) {
	for i := range h.in {
		c.In[i] = h.in[i].Load()
	}
	c.Sum = time.Duration(h.sum.Load())
	return c
}
