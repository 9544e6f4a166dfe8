package server

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/conns"
)

// codesKnown is the number of gRPC status codes.
const codesKnown = int(codes.Unauthenticated) + 1

// method counts the calls of one method. Counting is a few atomic additions;
// the label strings are built only when metrics are read.
type method struct {
	service, name string
	full          string
	op            string
	kind          string
	streaming     bool
	// sends: the client sends a stream of messages.
	sends   bool
	endless bool
	// lasting: requests under way wait for what its streams carry.
	lasting bool
	// following: its streams are those of nodes that follow this one.
	following bool
	// repeatable: serving a call twice changes nothing.
	repeatable bool
	audited    bool
	// row says what the method needs; nil is a method that no one may call. open: every
	// caller may make it, without authentication.
	row  *access.Row
	open bool
	// probe is a health check. It passes the limits: an orchestrator must not
	// take a busy node for a dead one.
	probe   bool
	byCode  [codesKnown]atomic.Uint64
	latency prometheus.Histogram
}

// newMethod makes the counters of a method. If several services have one of
// its name, qualified tells them apart.
func newMethod(service string, m grpc.MethodInfo, qualified bool) *method {
	op := m.Name
	if qualified {
		op = service[strings.LastIndexByte(service, '.')+1:] + "." + m.Name
	}
	kind := "unary"
	switch {
	case m.IsClientStream && m.IsServerStream:
		kind = "bidi_stream"
	case m.IsServerStream:
		kind = "server_stream"
	case m.IsClientStream:
		kind = "client_stream"
	}
	return &method{
		service:    service,
		name:       m.Name,
		full:       "/" + service + "/" + m.Name,
		op:         op,
		kind:       kind,
		streaming:  m.IsServerStream || m.IsClientStream,
		sends:      m.IsClientStream,
		endless:    endless(service, m.Name),
		lasting:    lasting(m.Name),
		following:  following(m.Name) || service == peerpb.Forwarding_ServiceDesc.ServiceName,
		repeatable: repeatable(m.Name),
		probe:      service == healthpb.Health_ServiceDesc.ServiceName,
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "dkv_request_duration_seconds",
			Help:        "How long requests took in the server.",
			ConstLabels: prometheus.Labels{"op": op},
			// 50 us to 13 s.
			Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
		}),
	}
}

func (m *method) observe(code codes.Code, took time.Duration) {
	m.byCode[min(int(code), codesKnown-1)].Add(1)
	m.latency.Observe(took.Seconds())
}

var (
	requestsDesc = prometheus.NewDesc("dkv_requests_total",
		"Requests finished, by operation and gRPC status code.", []string{"op", "code"}, nil)
	handledDesc = prometheus.NewDesc("grpc_server_handled_total",
		"RPCs finished, by method and status code.",
		[]string{"grpc_type", "grpc_service", "grpc_method", "grpc_code"}, nil)
	connectionsDesc = prometheus.NewDesc("dkv_connections", "Open gRPC connections.", nil, nil)
	inFlightDesc    = prometheus.NewDesc("dkv_requests_in_flight", "Unary requests under way.", nil, nil)
	streamsDesc     = prometheus.NewDesc("dkv_streams", "Open streams.", nil, nil)
	watchingDesc    = prometheus.NewDesc("dkv_health_watches", "Open streams that watch the node's health.", nil, nil)
	waitingDesc     = prometheus.NewDesc("dkv_requests_waiting", "Unary requests that wait for a newer state, or for their connection to take responses.", nil, nil)
	wireDesc        = prometheus.NewDesc("dkv_memory_in_flight_bytes", "Memory of requests that arrive or are worked on, and of responses until they have left.", nil, nil)
	hitsDesc        = prometheus.NewDesc("dkv_limit_hits_total",
		"Requests, streams and connections that were refused or ended by a limit.", []string{"limit"}, nil)
)

// The limits, as dkv_limit_hits_total names them.
const (
	limitConnections = "connections"
	limitDisplaced   = "idle-connections"
	limitInFlight    = "requests-in-flight"
	limitProbes      = "health-checks"
	limitWaiting     = "requests-waiting"
	limitMemory      = "memory-in-flight"
	limitUnwritten   = "responses-of-connection"
	limitStray       = "ignored-answers"
	limitResets      = "calls-given-up"
	limitNumbers     = "misnumbered-calls"
	limitReceive     = "receive-timeout"
	limitStreams     = "streams"
	limitFollowing   = "streams-of-nodes"
	limitWatching    = "health-watches"
	limitStalled     = "stream-stall-timeout"
	limitAudit       = "audit-required"
)

// limitHits counts how often each limit was hit. Both are few.
type limitHits struct {
	mu    sync.Mutex
	count map[string]uint64
}

// limited counts a hit of a limit.
func (c *calls) limited(limit string) {
	c.hits.mu.Lock()
	defer c.hits.mu.Unlock()
	if c.hits.count == nil {
		c.hits.count = make(map[string]uint64)
	}
	c.hits.count[limit]++
}

func (h *limitHits) all() map[string]uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.count)
}

// Describe implements prometheus.Collector; the set of metrics is dynamic.
func (c *calls) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, handledDesc, connectionsDesc, inFlightDesc, streamsDesc, watchingDesc, waitingDesc, wireDesc, hitsDesc} {
		ch <- d
	}
	for _, m := range c.methods {
		m.latency.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *calls) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(inFlightDesc, c.inFlight.taken.Load())
	gauge(streamsDesc, int64(c.streams.size()+c.following.size()))
	gauge(watchingDesc, int64(c.watching.size()))
	gauge(waitingDesc, c.waiting.count())
	gauge(wireDesc, c.wire.held.Load())
	c.collectLimits(ch, gauge)
	for _, m := range c.methods {
		m.collect(ch)
	}
}

// collectLimits collects the metrics of connections and limits.
func (c *calls) collectLimits(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, int64)) {
	hits := c.hits.all()
	if hits == nil {
		hits = make(map[string]uint64)
	}
	c.mu.Lock()
	l := c.listener
	c.mu.Unlock()
	var s conns.Stats
	if l != nil {
		s = l.Stats()
	}
	gauge(connectionsDesc, int64(s.Open))
	hits[limitConnections], hits[limitDisplaced] = s.Refused, s.Displaced
	for limit, n := range hits {
		ch <- prometheus.MustNewConstMetric(hitsDesc, prometheus.CounterValue, float64(n), limit)
	}
}

func (m *method) collect(ch chan<- prometheus.Metric) {
	// The methods of other packages may share a name; only ours are ops.
	ours := m.isOp()
	seen := false
	for code := range m.byCode {
		n := m.byCode[code].Load()
		if n == 0 {
			continue
		}
		seen = true
		name := codes.Code(code).String()
		if ours {
			ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, float64(n), m.op, name)
		}
		ch <- prometheus.MustNewConstMetric(handledDesc, prometheus.CounterValue, float64(n), m.kind, m.service, m.name, name)
	}
	if ours && seen {
		m.latency.Collect(ch)
	}
}

func (m *method) isOp() bool { return strings.HasPrefix(m.service, "dkv.") }

// size is the encoded size of a message; 0 for anything else.
func size(msg any) int {
	if m, ok := msg.(proto.Message); ok && m != nil {
		return proto.Size(m)
	}
	return 0
}
