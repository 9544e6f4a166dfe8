package ops

import (
	"bufio"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMetricsText(t *testing.T) {
	r := call(newServer(t, options()), "GET", "/metrics", "")
	if r.Code != http.StatusOK || !strings.Contains(r.Body.String(), `dkv_requests_total{op="put"} 3`) {
		t.Errorf("%d %s", r.Code, r.Body)
	}
}

func TestMetricsJSON(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "a_gauge", Help: "G."})
	gauge.Set(math.NaN())
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "b_counter", Help: "C."}, []string{"op"})
	counter.WithLabelValues("put").Add(2)
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "c_histogram", Help: "H.", Buckets: []float64{0.1, 1}})
	for _, v := range []float64{0.05, 0.5, 5} {
		histogram.Observe(v)
	}
	summary := prometheus.NewSummary(prometheus.SummaryOpts{Name: "d_summary", Help: "S.", Objectives: map[float64]float64{0.5: 0.05}})
	summary.Observe(4)
	untyped := prometheus.NewUntypedFunc(prometheus.UntypedOpts{Name: "e_untyped", Help: "U."}, func() float64 { return math.Inf(1) })
	registry.MustRegister(gauge, counter, histogram, summary, untyped)
	o := options()
	o.Gatherer = registry
	r := call(newServer(t, o), "GET", "/metrics/json", "")
	const want = `[{"name":"a_gauge","help":"G.","type":"gauge","metrics":[{"value":"NaN"}]},` +
		`{"name":"b_counter","help":"C.","type":"counter","metrics":[{"labels":{"op":"put"},"value":2}]},` +
		`{"name":"c_histogram","help":"H.","type":"histogram","metrics":[{"count":3,"sum":5.55,"buckets":{"+Inf":3,"0.1":1,"1":2}}]},` +
		`{"name":"d_summary","help":"S.","type":"summary","metrics":[{"count":1,"sum":4,"quantiles":{"0.5":4}}]},` +
		`{"name":"e_untyped","help":"U.","type":"untyped","metrics":[{"value":"+Inf"}]}]`
	if got := compact(t, r.Body.String()); got != want {
		t.Errorf("metrics:\n got %s\nwant %s", got, want)
	}
}

// gatherFunc is a source of metrics.
type gatherFunc func() ([]*dto.MetricFamily, error)

func (f gatherFunc) Gather() ([]*dto.MetricFamily, error) { return f() }

func TestFailingCollectors(t *testing.T) {
	name, kind := "some", dto.MetricType_GAUGE
	rest := []*dto.MetricFamily{{Name: &name, Type: &kind}}
	tests := []struct {
		name     string
		gathered []*dto.MetricFamily
		code     int
	}{
		{"all", nil, http.StatusInternalServerError},
		{"one", rest, http.StatusOK},
	}
	for _, tt := range tests {
		o := options()
		o.Gatherer = gatherFunc(func() ([]*dto.MetricFamily, error) { return tt.gathered, errors.New("a collector failed") })
		if r := call(newServer(t, o), "GET", "/metrics/json", ""); r.Code != tt.code {
			t.Errorf("%s fail: status %d, want %d", tt.name, r.Code, tt.code)
		}
	}
}

// readEvent reads one server-sent event's name and data.
func readEvent(t *testing.T, lines *bufio.Scanner) (name string, families []Family) {
	t.Helper()
	for lines.Scan() && lines.Text() != "" {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			var raw []json.RawMessage
			if err := json.Unmarshal([]byte(value), &raw); err != nil {
				t.Fatalf("%v in %q", err, value)
			}
			families = make([]Family, len(raw))
		}
	}
	return name, families
}

func TestStreamEndsWithServer(t *testing.T) {
	r := run(t, options())
	response, err := r.client.Get(r.url("/metrics/stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	lines := bufio.NewScanner(response.Body)
	if name, families := readEvent(t, lines); name != "metrics" || len(families) != 1 {
		t.Errorf("event %q with %d families", name, len(families))
	}
	r.stop(t)
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream was cut, not ended: %v", err)
	}
}

func TestStreamEndsWithClient(t *testing.T) {
	r := run(t, options())
	response, err := r.client.Get(r.url("/metrics/stream"))
	if err != nil {
		t.Fatal(err)
	}
	readEvent(t, bufio.NewScanner(response.Body))
	response.Body.Close()
	// The place becomes free when the handler has returned.
	testkit.Eventually(t, "the stream is over", func() bool {
		r.streams.mu.Lock()
		defer r.streams.mu.Unlock()
		return r.streams.n == 0
	})
}

func TestStreamSendsEachSecond(t *testing.T) {
	s := newServer(t, options())
	synctest.Test(t, func(t *testing.T) {
		// A channel of the bubble, so that waiting on it lets time pass.
		s.stopping = make(chan struct{})
		recorder := httptest.NewRecorder()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics/stream", nil))
		}()
		time.Sleep(3*streamInterval + streamInterval/2) // the bubble's clock
		close(s.stopping)
		<-done
		if got := strings.Count(recorder.Body.String(), "event: metrics\n"); got != 4 {
			t.Errorf("%d events in 3.5 s, want 4", got)
		}
		s.stop.Do(func() {})
	})
}

func TestStreamsAreBounded(t *testing.T) {
	s := newServer(t, options())
	var open *place
	for range maxStreams {
		open = s.streams.take("host 127.0.0.1", func() {}) // from which the requests of call come
	}
	r := call(s, "GET", "/metrics/stream", "")
	if r.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", r.Code)
	}
	errorText(t, r)
	s.streams.leave(open)
	if r := call(s, "HEAD", "/metrics/stream", ""); r.Code != http.StatusOK || r.Body.Len() != 0 {
		t.Errorf("HEAD: %d %q", r.Code, r.Body)
	}
	if s.streams.n != maxStreams-1 {
		t.Error("a HEAD request keeps its place")
	}
}

// TestMetricsByName: only those that are asked for, which are few of many.
func TestMetricsByName(t *testing.T) {
	s := newServer(t, options())
	for query, want := range map[string]int{"": 1, "?name=dkv_requests_total": 1, "?name=dkv_requests_total&name=other": 1, "?name=other": 0} {
		var families []Family
		r := call(s, "GET", "/metrics/json"+query, "")
		if err := json.Unmarshal(r.Body.Bytes(), &families); err != nil || len(families) != want {
			t.Errorf("%q: %s, %v", query, r.Body, err)
		}
	}
}
