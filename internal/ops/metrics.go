package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Bounds of the metrics streams.
const (
	streamInterval    = time.Second
	metricsStreamPath = "/metrics/stream"
	// streamWriteTimeout is how long a reader may leave one event unread.
	streamWriteTimeout = 10 * time.Second
	// maxStreams bounds the readers: each gathers every metric, or asks every node, each second.
	maxStreams = 16
	// maxScrapes bounds the readers of all metrics at once.
	maxScrapes = 16
)

// Family is one metric of GET /metrics/json with all its label values.
type Family struct {
	Name    string   `json:"name"`
	Help    string   `json:"help"`
	Type    string   `json:"type"`
	Metrics []Metric `json:"metrics"`
}

// Metric is one series: a value, or for histograms and summaries a count, a
// sum and the cumulative count of each bucket or the value of each quantile.
type Metric struct {
	Labels    map[string]string `json:"labels,omitempty"`
	Value     *Number           `json:"value,omitempty"`
	Count     *uint64           `json:"count,omitempty"`
	Sum       *Number           `json:"sum,omitempty"`
	Buckets   map[string]uint64 `json:"buckets,omitempty"`
	Quantiles map[string]Number `json:"quantiles,omitempty"`
}

// Number is a float that JSON can carry: NaN and the infinities, which it
// cannot, are the strings "NaN", "+Inf" and "-Inf".
type Number float64

// MarshalJSON writes the number.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return json.Marshal(formatFloat(f))
	}
	return json.Marshal(f)
}

// formatFloat writes a float as Prometheus does.
func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// metricsJSON answers with all metrics as one document, or with those that ?name= lists.
func (s *Server) metricsJSON(w http.ResponseWriter, r *http.Request) error {
	families, err := s.gather()
	if err != nil {
		return err
	}
	if wanted := r.URL.Query()["name"]; len(wanted) > 0 {
		families = slices.DeleteFunc(families, func(f Family) bool { return !slices.Contains(wanted, f.Name) })
	}
	return writeJSON(w, http.StatusOK, families)
}

// scraped bounds those who read all metrics at the same time, also those who do not take them.
func (s *Server) scraped(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		place := s.scrapes.take(callerName(r), func() { dropAnswer(w) })
		if place == nil {
			w.Header().Set("Retry-After", "1")
			return &Error{Status: http.StatusServiceUnavailable, Text: fmt.Sprintf("all metrics are being read %d times at once, which is the limit: retry later", maxScrapes)}
		}
		defer s.scrapes.leave(place)
		return h(w, r)
	}
}

// metricsStream sends all metrics now and each second from then on.
func (s *Server) metricsStream(w http.ResponseWriter, r *http.Request) error {
	return s.stream(w, r, metricsStreamPath, "metrics", func(context.Context) (any, error) { return s.gather() })
}

// stream sends a document now and each second from then on, as server-sent events of a name,
// until the client leaves, its grants end or the server stops.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, path, name string, document func(context.Context) (any, error)) error {
	ended := make(chan struct{})
	place := s.streams.take(callerName(r), func() { close(ended); dropAnswer(w) })
	if place == nil {
		return &Error{Status: http.StatusServiceUnavailable, Text: fmt.Sprintf("%d streams are open already: close one", maxStreams)}
	}
	defer s.streams.leave(place)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	for {
		if err := sendEvent(r.Context(), w, name, document); err != nil {
			// The header has been sent: an error can only end the stream.
			s.options.Logger.Debug("a stream of events has ended", "path", path, "error", err)
			return nil
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return nil
		case <-s.stopping:
			return nil
		case <-ended:
			s.options.Logger.Debug("a stream of events has made room for one of another caller", "path", path)
			return nil
		}
		if err := s.still(r, path); err != nil {
			s.auditRefusal(r, s.rejected(w, r, err))
			return nil
		}
	}
}

// sendEvent sends one event.
func sendEvent(ctx context.Context, w http.ResponseWriter, name string, document func(context.Context) (any, error)) error {
	content, err := document(ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	var event bytes.Buffer
	event.WriteString("event: " + name + "\ndata: ")
	event.Write(data)
	event.WriteString("\n\n")
	control := http.NewResponseController(w)
	setWriteDeadline(w, streamWriteTimeout)
	if _, err := w.Write(event.Bytes()); err != nil {
		return err
	}
	return control.Flush()
}

// gather reads every metric. If a collector fails, only its own metrics are missing, and
// that is logged.
func (s *Server) gather() ([]Family, error) {
	gathered, err := s.options.Gatherer.Gather()
	if err != nil {
		if len(gathered) == 0 {
			return nil, fmt.Errorf("gather metrics: %w", err)
		}
		s.options.Logger.Warn("some metrics could not be gathered", "error", err)
	}
	families := make([]Family, len(gathered))
	for i, g := range gathered {
		families[i] = familyOf(g)
	}
	return families, nil
}

func familyOf(g *dto.MetricFamily) Family {
	f := Family{Name: g.GetName(), Help: g.GetHelp(), Type: typeName(g.GetType())}
	f.Metrics = make([]Metric, len(g.GetMetric()))
	for i, m := range g.GetMetric() {
		f.Metrics[i] = metricOf(m)
	}
	return f
}

func typeName(t dto.MetricType) string {
	switch t {
	case dto.MetricType_COUNTER:
		return "counter"
	case dto.MetricType_GAUGE:
		return "gauge"
	case dto.MetricType_SUMMARY:
		return "summary"
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		return "histogram"
	default:
		return "untyped"
	}
}

func metricOf(m *dto.Metric) Metric {
	var out Metric
	if labels := m.GetLabel(); len(labels) > 0 {
		out.Labels = make(map[string]string, len(labels))
		for _, l := range labels {
			out.Labels[l.GetName()] = l.GetValue()
		}
	}
	switch {
	case m.Counter != nil:
		out.Value = number(m.Counter.GetValue())
	case m.Gauge != nil:
		out.Value = number(m.Gauge.GetValue())
	case m.Untyped != nil:
		out.Value = number(m.Untyped.GetValue())
	case m.Histogram != nil:
		out.setHistogram(m.Histogram)
	case m.Summary != nil:
		out.setSummary(m.Summary)
	}
	return out
}

func (m *Metric) setHistogram(h *dto.Histogram) {
	count := h.GetSampleCount()
	m.Count, m.Sum = &count, number(h.GetSampleSum())
	m.Buckets = make(map[string]uint64, len(h.GetBucket())+1)
	for _, b := range h.GetBucket() {
		m.Buckets[formatFloat(b.GetUpperBound())] = b.GetCumulativeCount()
	}
	m.Buckets["+Inf"] = count
}

func (m *Metric) setSummary(s *dto.Summary) {
	count := s.GetSampleCount()
	m.Count, m.Sum = &count, number(s.GetSampleSum())
	m.Quantiles = make(map[string]Number, len(s.GetQuantile()))
	for _, q := range s.GetQuantile() {
		m.Quantiles[formatFloat(q.GetQuantile())] = Number(q.GetValue())
	}
}

func number(f float64) *Number {
	n := Number(f)
	return &n
}
