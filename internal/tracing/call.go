package tracing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/kv"
)

// ParentKey is the metadata key of the caller's span, as W3C has it.
const ParentKey = "traceparent"

// Call is a sampled request.
type Call struct {
	tracer *Tracer
	ctx    context.Context
	span   trace.Span
	// forward is the id of the span of forwarding, which the other node learns before that
	// span is made.
	forward trace.SpanID
	// received, sent and sentBytes count what passes over a stream.
	received, sent, sentBytes atomic.Int64
}

// Begin begins the span of a request that arrived at a time, of which parent is the
// traceparent, if it has one. It returns nil if the request is not sampled, and on nil.
func (t *Tracer) Begin(op string, begun time.Time, parent []string) *Call {
	if t == nil {
		return nil
	}
	ctx := context.Background()
	if len(parent) > 0 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{ParentKey: parent[0]})
	}
	if from := trace.SpanContextFromContext(ctx); from.IsValid() && !from.IsSampled() || !from.IsValid() && rand.Float64() >= t.sample {
		return nil
	}
	c := &Call{tracer: t, forward: newSpanID()}
	c.ctx, c.span = t.tracer.Start(ctx, op, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(begun))
	return c
}

// Onward is the traceparent for what is asked of other nodes for the request; "" on nil.
func (c *Call) Onward() string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-01", c.span.SpanContext().TraceID(), c.forward)
}

// End ends the span of the request, and makes those of its phases.
func (c *Call) End(code codes.Code, text string, spent *kv.Trace) {
	if c == nil {
		return
	}
	for _, p := range kv.Phases() {
		part := spent.Part(p)
		if part.Took == 0 {
			continue
		}
		ctx, kind := c.ctx, trace.SpanKindInternal
		if p == kv.Forward {
			ctx, kind = context.WithValue(ctx, spanIDKey{}, c.forward), trace.SpanKindClient
		}
		_, span := c.tracer.tracer.Start(ctx, p.String(), trace.WithSpanKind(kind), trace.WithTimestamp(part.Begun))
		span.End(trace.WithTimestamp(part.Begun.Add(part.Took)))
	}
	c.end(code, text)
}

// end ends the span of a request by gRPC.
func (c *Call) end(code codes.Code, text string) {
	c.span.SetAttributes(attribute.String("rpc.system", "grpc"), attribute.Int("rpc.grpc.status_code", int(code)))
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		c.span.SetStatus(otelcodes.Error, text) // the other codes say what the caller did
	}
	c.span.End()
}

// Received counts a message that has arrived by a stream.
func (c *Call) Received() {
	if c != nil {
		c.received.Add(1)
	}
}

// Sent counts a message of so many bytes that a stream has sent.
func (c *Call) Sent(bytes int) {
	if c != nil {
		c.sent.Add(1)
		c.sentBytes.Add(int64(bytes))
	}
}

// EndStream ends the span of a stream, with the counts of what passed over it.
func (c *Call) EndStream(code codes.Code, text string) {
	if c == nil {
		return
	}
	c.span.SetAttributes(
		attribute.Int64("dkv.messages_received", c.received.Load()),
		attribute.Int64("dkv.messages_sent", c.sent.Load()),
		attribute.Int64("dkv.bytes_sent", c.sentBytes.Load()))
	c.end(code, text)
}

// EndHTTP ends the span of a request by HTTP.
func (c *Call) EndHTTP(path string, status int) {
	if c == nil {
		return
	}
	c.span.SetAttributes(attribute.String("url.path", path), attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		c.span.SetStatus(otelcodes.Error, http.StatusText(status))
	}
	c.span.End()
}

type callKey struct{}

// NewContext returns a context for the calls that a request makes to other servers of this
// process. Their spans are below that of the request; if it is nil, none of them is sampled.
func NewContext(ctx context.Context, c *Call) context.Context {
	parent := notSampled
	if c != nil {
		of := c.span.SpanContext()
		parent = fmt.Sprintf("00-%s-%s-01", of.TraceID(), of.SpanID())
	}
	return context.WithValue(ctx, callKey{}, parent)
}

// notSampled is a traceparent that says that the caller's request is not sampled.
const notSampled = "00-00000000000000000000000000000001-0000000000000001-00"

// ParentOf is the traceparent for the calls of a context; "" if nothing is decided.
func ParentOf(ctx context.Context) string {
	parent, _ := ctx.Value(callKey{}).(string)
	return parent
}
