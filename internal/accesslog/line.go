package accesslog

import (
	"bytes"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/logfile"
)

// Line is what is said of a request. Texts that are empty and numbers that are 0 are left
// out, but not the sizes of a unary call.
type Line struct {
	// Begun is when the request arrived, and Took how long it was in the server.
	Begun time.Time
	Took  time.Duration
	// Op is the gRPC method, or that of HTTP with the path, and Code the gRPC status code.
	Op, Code string
	// Peer is the host:port at the other end of the connection, Principal who makes the
	// call, and Via the node that forwards it.
	Peer, Principal, Via string
	// VBucket is that of the first key, and Key the first bytes of it, quoted.
	VBucket, Key string
	// RequestID is the client's id of a mutation, CLIENT-SEQUENCE.
	RequestID string
	// ReadLevel is the consistency that a read asks for, and AckLevel the level of
	// acknowledgement that a mutation asks for.
	ReadLevel, AckLevel string
	// RequestBytes and ResponseBytes are the sizes of the messages of a unary call, and
	// RequestBytes that of the first message of a stream.
	RequestBytes, ResponseBytes int
	Stream                      bool
}

// maxText bounds each text of a line, in bytes.
const maxText = 256

// attrs are the fields of the line in their order, after the time.
func (n *Line) attrs() []slog.Attr {
	out := make([]slog.Attr, 0, 16)
	text := func(key, value string) {
		if value != "" {
			out = append(out, slog.String(key, short(value)))
		}
	}
	text("op", n.Op)
	text("code", n.Code)
	out = append(out, slog.Duration("took", n.Took))
	text("peer", n.Peer)
	text("principal", n.Principal)
	text("via", n.Via)
	text("vbucket", n.VBucket)
	text("key", n.Key)
	text("request_id", n.RequestID)
	text("read_level", n.ReadLevel)
	text("ack_level", n.AckLevel)
	out = append(out, slog.Int("request_bytes", n.RequestBytes))
	if !n.Stream {
		out = append(out, slog.Int("response_bytes", n.ResponseBytes))
	}
	return out
}

func (n *Line) record() slog.Record {
	r := slog.NewRecord(n.Begun.UTC(), slog.LevelInfo, "", 0)
	r.AddAttrs(n.attrs()...)
	return r
}

// newEncoder returns a handler that writes lines to a buffer.
func newEncoder(to *bytes.Buffer, o *Options) slog.Handler {
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch {
		case a.Key == slog.LevelKey || a.Key == slog.MessageKey:
			return slog.Attr{}
		case a.Value.Kind() == slog.KindDuration: // JSON would have it in nanoseconds
			return slog.String(a.Key, a.Value.Duration().String())
		}
		return a
	}}
	var h slog.Handler = slog.NewTextHandler(to, options)
	if o.JSON {
		h = slog.NewJSONHandler(to, options)
	}
	var every []slog.Attr
	if o.Node != "" {
		every = append(every, slog.String("node", o.Node))
	}
	if o.Database != "" {
		every = append(every, slog.String("database", o.Database))
	}
	return h.WithAttrs(every)
}

// short cuts a text that is too long.
func short(text string) string { return logfile.Short(text, maxText) }

var linesDesc = prometheus.NewDesc("dkv_access_log_lines_total",
	"Lines of the access log, by what became of them: written, dropped because too many were waiting, or failed.", []string{"result"}, nil)

// Describe implements prometheus.Collector.
func (l *Log) Describe(ch chan<- *prometheus.Desc) { ch <- linesDesc }

// Collect implements prometheus.Collector.
func (l *Log) Collect(ch chan<- prometheus.Metric) {
	for result, n := range map[string]uint64{"written": l.written.Load(), "dropped": l.dropped.Load(), "failed": l.failed.Load()} {
		ch <- prometheus.MustNewConstMetric(linesDesc, prometheus.CounterValue, float64(n), result)
	}
}
