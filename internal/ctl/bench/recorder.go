package bench

import (
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The range and precision of the histograms: 1 µs to an hour, to one part in a
// thousand.
const (
	shortestLatency  = int64(time.Microsecond)
	longestLatency   = int64(time.Hour)
	latencyPrecision = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(shortestLatency, longestLatency, latencyPrecision)
}

func recordLatency(h *hdrhistogram.Histogram, d time.Duration) {
	// Within the range it cannot fail.
	_ = h.RecordValue(min(max(int64(d), 0), longestLatency))
}

// effect is what one successful operation did.
type effect struct {
	class     int    // which of the workload's classes it belongs to
	items     uint64 // keys written or found
	unmatched uint64 // keys not found, or a CAS that did not update
}

// tally counts the errors of one code.
type tally struct {
	count   uint64
	example string // the first one's message
}

// recorder collects what one worker sees. Only the counters are read while it
// works; everything else is merged when it has ended.
type recorder struct {
	succeeded, failed atomic.Uint64

	latency          []*hdrhistogram.Histogram // by class
	delay            *hdrhistogram.Histogram   // open loop: how late operations began
	items, unmatched uint64
	inTime           uint64 // successes that ended before the end of the run
	missed           uint64 // open loop: operations that never began
	beyond           uint64 // successes that took longer than longestLatency
	errors           map[codes.Code]*tally
	lastEnd          time.Time

	_ [64]byte // keeps the counters of two workers off one cache line
}

func newRecorder(classes int, open bool) *recorder {
	r := &recorder{errors: make(map[codes.Code]*tally)}
	for range classes {
		r.latency = append(r.latency, newHistogram())
	}
	if open {
		r.delay = newHistogram()
	}
	return r
}

func (r *recorder) success(e effect, latency time.Duration, inTime bool) {
	recordLatency(r.latency[e.class], latency)
	if int64(latency) > longestLatency {
		r.beyond++
	}
	r.items += e.items
	r.unmatched += e.unmatched
	if inTime {
		r.inTime++
	}
	r.succeeded.Add(1)
}

func (r *recorder) failure(err error) {
	st := status.Convert(err)
	t := r.errors[st.Code()]
	if t == nil {
		t = &tally{example: st.Message()}
		r.errors[st.Code()] = t
	}
	t.count++
	r.failed.Add(1)
}

// merge adds another worker's records to r.
func (r *recorder) merge(o *recorder) {
	for i, h := range o.latency {
		r.latency[i].Merge(h)
	}
	if r.delay != nil {
		r.delay.Merge(o.delay)
	}
	r.items += o.items
	r.unmatched += o.unmatched
	r.inTime += o.inTime
	r.missed += o.missed
	r.beyond += o.beyond
	for code, t := range o.errors {
		if mine := r.errors[code]; mine != nil {
			mine.count += t.count
		} else {
			r.errors[code] = &tally{t.count, t.example}
		}
	}
	if o.lastEnd.After(r.lastEnd) {
		r.lastEnd = o.lastEnd
	}
	r.succeeded.Add(o.succeeded.Load())
	r.failed.Add(o.failed.Load())
}

// readable words a gRPC error without gRPC's own preamble. errors.Is and As see
// through it.
func readable(err error) error {
	st, ok := status.FromError(err)
	if !ok || err == nil {
		return err
	}
	return &readableError{st.Code().String() + ": " + st.Message(), err}
}

type readableError struct {
	text string
	err  error
}

func (e *readableError) Error() string { return e.text }
func (e *readableError) Unwrap() error { return e.err }
