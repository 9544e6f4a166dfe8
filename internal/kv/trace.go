package kv

import (
	"context"
	"sync/atomic"
	"time"
)

// Trace adds up where a request's time went, for the log of slow ones. All
// methods may be called on nil, and concurrently.
type Trace struct {
	waited, wrote, read, elsewhere atomic.Int64
}

type traceKey struct{}

// WithTrace returns a context that carries a new Trace.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	t := new(Trace)
	return context.WithValue(ctx, traceKey{}, t), t
}

// TraceOf returns the context's Trace; nil where it has none.
func TraceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

// Start returns the time to measure from; the zero time on nil, which costs
// nothing.
func (t *Trace) Start() time.Time {
	if t == nil {
		return time.Time{}
	}
	return time.Now()
}

// Wrote adds what a mutation took that began at the given time and was taken up
// by the log at another: waiting until then, writing since.
func (t *Trace) Wrote(begin, taken time.Time) {
	if t != nil {
		t.waited.Add(int64(taken.Sub(begin)))
		t.wrote.Add(int64(time.Since(taken)))
	}
}

// Read adds what a read took that began at the given time.
func (t *Trace) Read(begin time.Time) {
	if t != nil {
		t.read.Add(int64(time.Since(begin)))
	}
}

// Elsewhere adds what another node took for a request that was handed on to it at
// the given time.
func (t *Trace) Elsewhere(begin time.Time) {
	if t != nil {
		t.elsewhere.Add(int64(time.Since(begin)))
	}
}

// Parts are where a request's time went. They may overlap: a request that is
// about several vBuckets does some of its work at once.
type Parts struct{ Waited, Wrote, Read, Elsewhere time.Duration }

// Parts returns what was added up.
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
