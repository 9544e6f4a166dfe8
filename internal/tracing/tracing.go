// Package tracing sends the spans of sampled requests to a collector, by OTLP over gRPC.
//
// A request is sampled if its caller says so by the W3C header traceparent, or if it has
// none and is among a share of all. Its span has a child for each phase in which it spent
// time; the spans of the node that it is forwarded to are below the one of forwarding.
// Nothing waits for the collector: spans that it does not take in time are dropped.
package tracing

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Options are what a Tracer is made of.
type Options struct {
	// Endpoint is the collector's host:port. A path that follows, such as /otlp, comes
	// before that of the calls: for proxies that go by it.
	Endpoint string
	// Headers are sent with each call, such as authorization.
	Headers map[string]string
	// TLS is that of connections to the collector; nil sends spans in the clear.
	TLS *tls.Config
	// Sample is the share of requests without a traceparent that is sampled, from 0 to 1.
	Sample float64
	// Node is the node's name and Address where clients reach it, which is unlike that of
	// any other node.
	Node, Address, Version, Database string
	Log                              *slog.Logger
}

const (
	// patience is how long an export may take.
	patience = 5 * time.Second
	// parting is how long Close waits for the last ones: a collector that hangs must hold up
	// neither the end of a node nor a promotion, at which a node is opened again.
	parting = 500 * time.Millisecond
)

// Tracer makes the spans of requests. It is safe for concurrent use.
type Tracer struct {
	sample   float64
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	uploads  *uploads
}

// New returns a Tracer. The collector need not be there: it is connected to, again and
// again, when there are spans for it.
func New(o Options) (*Tracer, error) {
	to := &uploads{options: o}
	exporter, err := otlptrace.New(context.Background(), to)
	if err != nil {
		return nil, fmt.Errorf("trace-endpoint %s: %w", o.Endpoint, err)
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&noting{SpanExporter: exporter, endpoint: o.Endpoint, log: o.Log}, sdk.WithBatchTimeout(time.Second), sdk.WithExportTimeout(patience)),
		sdk.WithSampler(sdk.AlwaysSample()), // Begin has decided
		sdk.WithIDGenerator(chosen{}),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "dkvsrv"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Address),
			attribute.String("dkv.node", o.Node),
			attribute.String("dkv.database", o.Database),
		)))
	return &Tracer{sample: o.Sample, provider: provider, tracer: provider.Tracer("github.com/dkvdb/dkv"), uploads: to}, nil
}

// Close sends the spans that are left, for a while.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), parting)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // spans of a collector that is away are lost, as before
	_ = t.uploads.Stop(ctx)      // if that was not over in time: what still goes on ends with the connection
	return nil
}

// noting is an exporter that logs when the collector does not take spans, once, and when it
// does again.
type noting struct {
	sdk.SpanExporter
	endpoint string
	log      *slog.Logger
	failing  atomic.Bool
}

// ExportSpans implements sdk.SpanExporter. Its caller could only log the error.
func (n *noting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := n.SpanExporter.ExportSpans(ctx, spans)
	switch failed := err != nil; {
	case n.failing.Swap(failed) == failed:
	case failed:
		n.log.Warn("spans cannot be sent to trace-endpoint and are dropped; trying again with the next ones"+advice(err), "endpoint", n.endpoint, "error", err)
	default:
		n.log.Info("spans are sent to trace-endpoint again", "endpoint", n.endpoint)
	}
	return nil
}

// advice is what to do about a collector that shows a certificate which is not accepted.
func advice(err error) string {
	if strings.Contains(err.Error(), "x509: ") { // gRPC keeps the text of it only
		return "; the certificate of the collector must be issued by an authority of tls-ca-file and name its host"
	}
	return ""
}

// chosen makes the ids of traces and spans, unless a span's was chosen before it is made.
type chosen struct{}

type spanIDKey struct{}

// NewIDs implements sdk.IDGenerator.
func (g chosen) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	var id trace.TraceID
	for !id.IsValid() {
		putUint64(id[:8], rand.Uint64())
		putUint64(id[8:], rand.Uint64())
	}
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdk.IDGenerator.
func (chosen) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if id, is := ctx.Value(spanIDKey{}).(trace.SpanID); is {
		return id
	}
	return newSpanID()
}

func newSpanID() (id trace.SpanID) {
	for !id.IsValid() {
		putUint64(id[:], rand.Uint64())
	}
	return id
}

func putUint64(to []byte, n uint64) {
	for i := range 8 {
		to[i] = byte(n >> (8 * i))
	}
}
