package statsd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// server is a statsd server that keeps what it receives.
func server(t *testing.T) (addr string, lines func(n int) []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String(), func(n int) (out []string) {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for len(out) < n {
			size, _, err := conn.ReadFrom(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, out)
			}
			if size > packet {
				t.Errorf("a packet of %d bytes", size)
			}
			out = append(out, strings.Split(strings.TrimSuffix(string(buf[:size]), "\n"), "\n")...)
		}
		slices.Sort(out)
		return out
	}
}

func TestMetricsBecomeLines(t *testing.T) {
	addr, lines := server(t)
	all := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests_total"}, []string{"op", "code"})
	depth := prometheus.NewGauge(prometheus.GaugeOpts{Name: "depth"})
	none := prometheus.NewGauge(prometheus.GaugeOpts{Name: "none"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds"})
	all.MustRegister(requests, depth, none, took)
	s := New(Options{Addr: addr, Gatherer: all, Log: slog.New(slog.DiscardHandler)})
	send := func(want ...string) {
		t.Helper()
		if err := s.send(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := lines(len(want)); !slices.Equal(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	}
	requests.WithLabelValues("Get", "OK").Add(3)
	requests.WithLabelValues("Put", "a.b:c|d e").Add(1)
	depth.Set(7)
	none.Set(math.NaN())
	took.Observe(0.25)
	send("depth:7|g", "requests_total.code.OK.op.Get:3|c", "requests_total.code.a_b_c_d_e.op.Put:1|c", "took_seconds.count:1|c", "took_seconds.sum:0.25|c")
	requests.WithLabelValues("Get", "OK").Add(2)
	depth.Set(-1.5)
	send("depth:-1.5|g", "depth:0|g", "requests_total.code.OK.op.Get:2|c")
	requests.Reset()
	requests.WithLabelValues("Get", "OK").Add(1)
	depth.Set(0)
	send("depth:0|g", "requests_total.code.OK.op.Get:1|c")
}

func TestManyMetricsAreSentInSeveralPackets(t *testing.T) {
	addr, lines := server(t)
	all := prometheus.NewRegistry()
	gauges := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gauge"}, []string{"n"})
	all.MustRegister(gauges)
	for i := range 300 {
		gauges.WithLabelValues(strings.Repeat("x", i)).Set(float64(i))
	}
	if err := New(Options{Addr: addr, Gatherer: all}).send(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := lines(300); len(got) != 300 {
		t.Errorf("%d lines", len(got))
	}
}

// A server that is not there is logged once, and the metrics are sent when it is.
func TestFailuresAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	fails := errors.New("no")
	s := New(Options{Addr: "127.0.0.1:1", Log: slog.New(slog.NewTextHandler(&log, nil)),
		Gatherer: prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, nil })})
	for _, err := range []error{nil, fails, fails, nil, nil} {
		s.note(err)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "error=no") || !strings.Contains(log.String(), "again") {
		t.Errorf("logged %s", &log)
	}
}

func TestRunSendsUntilItsContextEnds(t *testing.T) {
	addr, lines := server(t)
	all := prometheus.NewRegistry()
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "up"})
	requests := prometheus.NewCounter(prometheus.CounterOpts{Name: "requests_total"})
	all.MustRegister(up, requests)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		New(Options{Addr: addr, Gatherer: all, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
	}()
	if got := lines(1); got[0] != "up:0|g" {
		t.Errorf("sent %q", got)
	}
	requests.Add(3)
	cancel()
	<-ended
	if got := lines(2); got[0] != "requests_total:3|c" { // which no one would ever hear of
		t.Errorf("sent at the end: %q", got)
	}
}
