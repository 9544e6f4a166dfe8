package dkv

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// The caller's span goes on to the node, and costs nothing if there is none.
func TestSpanOfTheCallerIsPassedOn(t *testing.T) {
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() {
		if traced(ctx) != ctx {
			t.Error("a context without a span was changed")
		}
	}); n != 0 {
		t.Errorf("%v allocations without a span", n)
	}
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	md, _ := metadata.FromOutgoingContext(traced(trace.ContextWithSpanContext(ctx, span)))
	if got := md.Get("traceparent"); len(got) != 1 || got[0] != "00-01000000000000000000000000000000-0200000000000000-01" {
		t.Errorf("traceparent is %q", got)
	}
}
