package tracing

import (
	"context"
	"fmt"
	"math/rand/v2"
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
	c.span.SetAttributes(attribute.String("rpc.system", "grpc"), attribute.Int("rpc.grpc.status_code", int(code)))
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		c.span.SetStatus(otelcodes.Error, text) // the other codes say what the caller did
	}
	c.span.End()
}
