package kv

import (
	"context"
	"sync/atomic"
	"time"
)

// Trace adds up where a request spent its time, for the log of slow requests. All methods
// may be called on nil, and concurrently.
type Trace struct {
	waited, wrote, read, elsewhere atomic.Int64
}

// TraceKey is the context key of a *Trace.
type TraceKey struct{}

// TraceOf returns the context's Trace, or nil if it has none.
func TraceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(TraceKey{}).(*Trace)
	return t
}

// Start returns the time to measure from, and the zero time on nil, at no cost.
func (t *Trace) Start() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Wrote adds the time of a mutation that began at begin and was taken into the log at
// taken: it waited until then and has been writing since.
func (t *Trace) Wrote(begin, taken time.Time) {
	if t != nil {
		t.waited.Add(int64(taken.Sub(begin)))
		t.wrote.Add(int64(time.Since(taken)))
	}
}

// Read adds the time of a read that began at the given time.
func (t *Trace) Read(begin time.Time) {
	if t != nil {
		t.read.Add(int64(time.Since(begin)))
	}
}

// Elsewhere adds the time that another node took for a request that was forwarded to it at
// the given time.
func (t *Trace) Elsewhere(begin time.Time) {
	if t != nil {
		t.elsewhere.Add(int64(time.Since(begin)))
	}
}

// Parts are where a request spent its time. They may overlap, since a request to several
// vBuckets does some of its work concurrently.
type Parts struct{ Waited, Wrote, Read, Elsewhere time.Duration }

// Parts returns the sums so far.
func (t *Trace) Parts() Parts {
	if t == nil {
		return Parts{}
	}
	return Parts{
		Waited:    time.Duration(t.waited.Load()),
		Wrote:     time.Duration(t.wrote.Load()),
		Read:      time.Duration(t.read.Load()),
		Elsewhere: time.Duration(t.elsewhere.Load()),
	}
}
