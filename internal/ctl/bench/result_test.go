package bench

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestResultText(t *testing.T) {
	r := Result{
		Target: "127.0.0.1:8080", Operation: "mixed", Loop: "open", Rate: 1000, Workers: 8, Connections: 2, KeySize: 16,
		ValueSize: 128, Keys: 1000, Zipf: 0.99, Read: "sequential", Seconds: 2, Operations: 1900, Throughput: 950,
		Items: 1900, Unmatched: 3, Missed: 90, Failed: 7, Errors: []ErrorCount{{"Unavailable", 7, "down"}},
		Latency:    Latency{Min: 50, Mean: 100, P50: 90, P90: 200, P95: 300, P99: 1500, P999: 2e4, Max: 3e6},
		Classes:    []Class{{"get", 1000, Latency{P50: 80}}, {"put", 900, Latency{P50: 95}}},
		BeginDelay: &Latency{P50: 10, P99: 1000, Max: 2000},
	}
	const want = `mixed (sequential) on 127.0.0.1:8080: open loop at 1000/s, 8 workers, 2 connections, 1000 keys of 16 B (zipf 0.99), values of 128 B
operations  1900 in 2.00 s
throughput  950/s
latency     min 50µs  mean 100µs  p50 90µs  p90 200µs  p95 300µs  p99 1.50ms  p99.9 20.00ms  max 3s
  get       1000: min 0µs  mean 0µs  p50 80µs  p90 0µs  p95 0µs  p99 0µs  p99.9 0µs  max 0µs
  put       900: min 0µs  mean 0µs  p50 95µs  p90 0µs  p95 0µs  p99 0µs  p99.9 0µs  max 0µs
begun late  p50 10µs  p99 1.00ms  max 2.00ms (included in the latency)
missed      90 operations of the schedule never began: the server, or too few workers, did not keep up
unmatched   3 keys not found or not updated
errors      7
  Unavailable       7: down
`
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil || out.String() != want {
		t.Errorf("text is\n%swant\n%s(%v)", out.String(), want, err)
	}
	broken := errors.New("broken")
	if err := r.WriteText(writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Errorf("a failed write gives %v", err)
	}
}

func TestMergeLosesNothing(t *testing.T) {
	total := newRecorder(2, true)
	for i := range 10 {
		r := newRecorder(2, true)
		for n := range 100 {
			r.success(effect{class: n % 2, items: 2, unmatched: 1}, time.Duration(n+1)*time.Millisecond, n < 90)
			recordLatency(r.delay, time.Millisecond)
		}
		r.failure(status.Error(codes.Aborted, "a"))
		if i > 4 {
			r.failure(status.Error(codes.Internal, "b"))
		}
		r.missed = 5
		total.merge(r)
	}
	if total.succeeded.Load() != 1000 || total.failed.Load() != 15 || total.inTime != 900 || total.missed != 50 ||
		total.items != 2000 || total.unmatched != 1000 || total.delay.TotalCount() != 1000 {
		t.Errorf("the sum is %+v", total)
	}
	if a, b := total.latency[0].TotalCount(), total.latency[1].TotalCount(); a != 500 || b != 500 {
		t.Errorf("classes have %d and %d latencies, want 500 each", a, b)
	}
	counts := errorCounts(total.errors)
	if len(counts) != 2 || counts[0] != (ErrorCount{"Aborted", 10, "a"}) || counts[1] != (ErrorCount{"Internal", 5, "b"}) {
		t.Errorf("errors are %v", counts)
	}
}

func TestLatenciesBeyondTheRangeAreKept(t *testing.T) {
	h := newHistogram()
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, 2 * time.Hour} {
		recordLatency(h, d)
	}
	if h.TotalCount() != 4 || h.Max() < longestLatency*999/1000 {
		t.Errorf("%d recorded, longest %d", h.TotalCount(), h.Max())
	}
}

// TestLongOperationsShow: an outage of minutes is measured, and what is too long for that is counted.
func TestLongOperationsShow(t *testing.T) {
	total := newRecorder(1, false)
	for _, d := range []time.Duration{200 * time.Second, 2 * time.Hour} {
		r := newRecorder(1, false)
		r.success(effect{}, d, true)
		if d < time.Hour && r.latency[0].Min() < int64(d)*999/1000 {
			t.Errorf("%v is recorded as %v", d, time.Duration(r.latency[0].Min()))
		}
		total.merge(r)
	}
	var text strings.Builder
	if err := (&Result{Beyond: total.beyond}).WriteText(&text); err != nil || !strings.Contains(text.String(), "beyond 1 h  1 operations") {
		t.Errorf("%v, %s", err, text.String())
	}
}
