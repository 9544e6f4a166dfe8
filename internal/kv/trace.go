package kv

import (
	"context"
	"sync/atomic"
	"time"
)

// Phase is a part of the way of a request in which it may spend its time.
type Phase uint8

// The phases of a mutation and of a read, in their order. A request has some of them.
const (
	// Queue: until it was admitted and had arrived, and for its turn in the log.
	Queue Phase = iota
	// Forward: at another node, which logs its phases itself.
	Forward
	// LeaseWait: until this node owned the log, or a majority had confirmed that it does.
	LeaseWait
	// IndexWait: until a state was applied that is as new as the read asks for.
	IndexWait
	// Commit: from the proposal until the log had it durably at a majority. In a log of one
	// node that is the engine's write with its fsync, which applies it, too.
	Commit
	// ApplyWait: until what had been committed before it was applied.
	ApplyWait
	// Apply: the engine's batch that it was in.
	Apply
	// Confirm: until standbys had confirmed what its answer shows.
	Confirm
	// Read: reading the engine.
	Read
	// Answer: encoding a large response, and waiting for room to send it.
	Answer
	phases
)

// Phases are all phases, in their order.
func Phases() []Phase {
	out := make([]Phase, phases)
	for i := range out {
		out[i] = Phase(i)
	}
	return out
}

// String is the name of the phase in the log of slow requests and in traces.
func (p Phase) String() string {
	return [...]string{"queue", "forward", "lease_wait", "index_wait", "commit", "apply_wait", "apply", "confirm", "read", "answer"}[p]
}

// Trace adds up where a request spent its time, for the log of slow requests and for traces.
// All methods may be called on nil, and concurrently.
type Trace struct {
	// Since the Unix epoch in nanoseconds, 0 for never, and a sum in nanoseconds.
	parts [phases]struct{ begun, took atomic.Int64 }
	// onward is set before the trace is shared.
	onward string
}

// SetOnward sets the W3C traceparent for what is asked of other nodes for the request. It
// comes before all other uses of the trace.
func (t *Trace) SetOnward(parent string) { t.onward = parent }

// Onward is the W3C traceparent for what is asked of other nodes; "" if the request is not
// sampled.
func (t *Trace) Onward() string {
	if t == nil {
		return ""
	}
	return t.onward
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

// Since adds the time of a phase that began at the given time and ends now.
func (t *Trace) Since(p Phase, begun time.Time) {
	if t != nil {
		t.Add(p, begun, time.Now())
	}
}

// Add adds the time of a phase. One that ends before it begins took no time.
func (t *Trace) Add(p Phase, begun, ended time.Time) {
	if t == nil {
		return
	}
	if took := ended.Sub(begun); took > 0 {
		t.parts[p].begun.CompareAndSwap(0, begun.UnixNano())
		t.parts[p].took.Add(int64(took))
	}
}

// Part is what a request spent in a phase: when it first began, and how long it was in all.
// The parts of a request to several vBuckets may overlap.
type Part struct {
	Begun time.Time
	Took  time.Duration
}

// Part returns what is known of a phase so far; Took is 0 if the request was not in it.
func (t *Trace) Part(p Phase) Part {
	if t == nil {
		return Part{}
	}
	return Part{Begun: time.Unix(0, t.parts[p].begun.Load()), Took: time.Duration(t.parts[p].took.Load())}
}
