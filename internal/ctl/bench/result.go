package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/codes"
)

// Result is what one run measured.
type Result struct {
	Target      string  `json:"target"`
	Operation   string  `json:"operation"`
	Loop        string  `json:"loop"` // closed or open
	Rate        float64 `json:"rate,omitempty"`
	Workers     int     `json:"workers"`
	Connections int     `json:"connections"`
	KeySize     int     `json:"key_size"`
	ValueSize   int     `json:"value_size"`
	Keys        uint64  `json:"keys"` // 0: a fresh key each time
	Zipf        float64 `json:"zipf,omitempty"`
	Read        string  `json:"read,omitempty"` // sequential or linearizable
	Seed        uint64  `json:"seed"`
	// Seconds is the time measured.
	Seconds float64 `json:"seconds"`
	// Operations succeeded; Throughput counts a second's worth of those that
	// ended within the time.
	Operations uint64  `json:"operations"`
	Throughput float64 `json:"throughput"`
	// Items are keys written or found.
	Items uint64 `json:"items"`
	// Unmatched are keys that were not found, or CASes that did not update.
	Unmatched uint64 `json:"unmatched"`
	// Missed are operations of an open loop that never began, because no
	// worker was free before the end. No latency includes them.
	Missed uint64 `json:"missed,omitempty"`
	// Beyond are operations that took longer than an hour. They are in the latencies as ones of
	// an hour.
	Beyond uint64       `json:"beyond_hour,omitempty"`
	Failed uint64       `json:"failed"`
	Errors []ErrorCount `json:"errors,omitempty"`
	// Latency is that of all successful operations; Classes splits a mixed load.
	Latency Latency `json:"latency"`
	Classes []Class `json:"classes,omitempty"`
	// BeginDelay is how late operations of an open loop began.
	BeginDelay *Latency `json:"begin_delay,omitempty"`
	// Server is what the servers' processes used, if it was measured.
	Server *ServerUse `json:"server,omitempty"`
}

// ErrorCount is how often a run met an error.
type ErrorCount struct {
	Code    string `json:"code"`
	Count   uint64 `json:"count"`
	Example string `json:"example"`
}

// Class is a part of a load.
type Class struct {
	Name       string  `json:"name"`
	Operations uint64  `json:"operations"`
	Latency    Latency `json:"latency"`
}

// Latency summarises a histogram, in microseconds.
type Latency struct {
	Min  float64 `json:"min_micros"`
	Mean float64 `json:"mean_micros"`
	P50  float64 `json:"p50_micros"`
	P90  float64 `json:"p90_micros"`
	P95  float64 `json:"p95_micros"`
	P99  float64 `json:"p99_micros"`
	P999 float64 `json:"p999_micros"`
	Max  float64 `json:"max_micros"`
}

func summarize(h *hdrhistogram.Histogram) Latency {
	micros := func(ns int64) float64 { return float64(ns) / 1e3 }
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{
		Min: micros(h.Min()), Mean: h.Mean() / 1e3,
		P50: micros(h.ValueAtPercentile(50)), P90: micros(h.ValueAtPercentile(90)), P95: micros(h.ValueAtPercentile(95)),
		P99: micros(h.ValueAtPercentile(99)), P999: micros(h.ValueAtPercentile(99.9)), Max: micros(h.Max()),
	}
}

func newResult(w *workload, target Target, p *plan, total *recorder) *Result {
	cfg := w.cfg
	r := &Result{
		Target: target.Name, Operation: string(cfg.Operation), Loop: "closed", Rate: cfg.Rate,
		Workers: cfg.Workers, Connections: len(target.Conns), KeySize: cfg.KeySize, ValueSize: cfg.ValueSize,
		Keys: cfg.Keys, Zipf: cfg.Zipf, Seed: cfg.Seed,
		Operations: total.succeeded.Load(), Items: total.items, Unmatched: total.unmatched, Missed: total.missed, Beyond: total.beyond,
		Failed: total.failed.Load(), Errors: errorCounts(total.errors),
	}
	if cfg.Operation.Reads() && cfg.Operation != CAS {
		r.Read = "sequential"
		if cfg.Linearizable {
			r.Read = "linearizable"
		}
	}
	if cfg.Rate > 0 {
		r.Loop = "open"
		delay := summarize(total.delay)
		r.BeginDelay = &delay
	}
	if cfg.Ledger != nil {
		r.Keys = 0
	}
	r.setThroughput(p, total)
	all := newHistogram()
	for i, h := range total.latency {
		all.Merge(h)
		if len(total.latency) > 1 {
			r.Classes = append(r.Classes, Class{w.classes[i], uint64(h.TotalCount()), summarize(h)})
		}
	}
	r.Latency = summarize(all)
	return r
}

// setThroughput measures to the end of the run, if it was reached: the
// last few answers, which come after it, are counted as operations but would
// distort the rate if one of them took long.
func (r *Result) setThroughput(p *plan, total *recorder) {
	elapsed, ops := total.lastEnd.Sub(p.start), total.succeeded.Load()
	if p.over(total.lastEnd) {
		elapsed, ops = p.end.Sub(p.start), total.inTime
	}
	if elapsed <= 0 {
		return
	}
	r.Seconds = elapsed.Seconds()
	r.Throughput = float64(ops) / r.Seconds
}

func errorCounts(errors map[codes.Code]*tally) []ErrorCount {
	var counts []ErrorCount
	for code, t := range errors {
		counts = append(counts, ErrorCount{code.String(), t.count, t.example})
	}
	slices.SortFunc(counts, func(a, b ErrorCount) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code)) })
	return counts
}

// WriteText prints the result for people.
func (r *Result) WriteText(out io.Writer) error {
	t := &textWriter{out: out}
	t.linef("%s", r.title())
	t.linef("operations  %d in %.2f s", r.Operations, r.Seconds)
	t.linef("throughput  %.0f/s%s", r.Throughput, r.itemRate())
	t.linef("latency     %s", r.Latency)
	for _, c := range r.Classes {
		t.linef("  %-10s%d: %s", c.Name, c.Operations, c.Latency)
	}
	if r.BeginDelay != nil {
		t.linef("begun late  p50 %s  p99 %s  max %s (included in the latency)",
			micros(r.BeginDelay.P50), micros(r.BeginDelay.P99), micros(r.BeginDelay.Max))
	}
	if r.Server != nil {
		t.linef("server      %s", r.Server)
	}
	if r.Missed > 0 {
		t.linef("missed      %d operations of the schedule never began: the server, or too few workers, did not keep up", r.Missed)
	}
	if r.Beyond > 0 {
		t.linef("beyond 1 h  %d operations, which are in the latency as ones of an hour", r.Beyond)
	}
	if r.Unmatched > 0 {
		t.linef("unmatched   %d keys not found or not updated", r.Unmatched)
	}
	t.linef("errors      %d", r.Failed)
	for _, e := range r.Errors {
		t.linef("  %-18s%d: %s", e.Code, e.Count, e.Example)
	}
	return t.err
}

func (r *Result) title() string {
	loop := "closed loop"
	if r.Rate > 0 {
		loop = fmt.Sprintf("open loop at %.0f/s", r.Rate)
	}
	distribution := "uniform"
	if r.Zipf > 0 {
		distribution = fmt.Sprintf("zipf %g", r.Zipf)
	}
	keys := fmt.Sprintf("%d keys of %d B (%s)", r.Keys, r.KeySize, distribution)
	if r.Keys == 0 {
		keys = fmt.Sprintf("fresh keys of %d B", r.KeySize)
	}
	read := ""
	if r.Read != "" {
		read = " (" + r.Read + ")"
	}
	return fmt.Sprintf("%s%s on %s: %s, %d workers, %d connections, %s, values of %d B",
		r.Operation, read, r.Target, loop, r.Workers, r.Connections, keys, r.ValueSize)
}

// itemRate returns the rate of keys if an operation has several.
func (r *Result) itemRate() string {
	if r.Items <= r.Operations || r.Seconds == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.0f keys/s)", r.Throughput*float64(r.Items)/float64(r.Operations))
}

// String returns the percentiles in one line.
func (l Latency) String() string {
	return fmt.Sprintf("min %s  mean %s  p50 %s  p90 %s  p95 %s  p99 %s  p99.9 %s  max %s", micros(l.Min), micros(l.Mean),
		micros(l.P50), micros(l.P90), micros(l.P95), micros(l.P99), micros(l.P999), micros(l.Max))
}

// micros shows microseconds with three or four digits that mean something.
func micros(us float64) string {
	switch {
	case us < 1e3:
		return fmt.Sprintf("%.0fµs", us)
	case us < 1e6:
		return fmt.Sprintf("%.2fms", us/1e3)
	default:
		return time.Duration(us * 1e3).Round(time.Millisecond).String()
	}
}

// textWriter keeps the first error of several writes.
type textWriter struct {
	out io.Writer
	err error
}

func (t *textWriter) linef(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.out, format+"\n", args...)
	}
}
