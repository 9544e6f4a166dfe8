package app

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// receiver is an OTLP collector that keeps what it is sent.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*spans.Span
	node  map[*spans.Span]string
}

// Export implements the collector.
func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range req.GetResourceSpans() {
		node := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.instance.id" {
				node = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				r.spans = append(r.spans, s)
				r.node[s] = node
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// below are the names, with their nodes, of the spans below one, and the spans by these.
func (r *receiver) below(parent string) map[string]*spans.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]*spans.Span)
	for _, s := range r.spans {
		if hex.EncodeToString(s.GetParentSpanId()) == parent {
			out[s.GetName()+"@"+r.node[s]] = s
		}
	}
	return out
}

func newReceiver(t *testing.T) (r *receiver, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r = &receiver{node: make(map[*spans.Span]string)}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, r)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return r, l.Addr().String()
}

// TestForwardedPutIsOneTrace: from the caller's span over the node that forwards the put to the phases of the
// log's owner; and requests that nothing samples have no spans.
func TestForwardedPutIsOneTrace(t *testing.T) {
	collected, endpoint := newReceiver(t)
	nodes := mastersWith(t, 3, "--trace-endpoint", endpoint, "--trace-sample", "0")
	leader, followers := lead(t, nodes)
	owner, other := leader.listen, followers[0].listen
	client := serverpb.NewDKVClient(connect(t, other))
	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+caller+"-01")
	testkit.Eventually(t, "the put is forwarded and traced", func() bool {
		_, err := client.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
		return err == nil
	})
	id := func(s *spans.Span) string { return hex.EncodeToString(s.GetSpanId()) }
	testkit.Eventually(t, "the tree of spans is whole", func() bool {
		entry := collected.below(caller)["Put@"+other]
		if entry == nil {
			return false
		}
		forward := collected.below(id(entry))["forward@"+other]
		if forward == nil {
			return false
		}
		put := collected.below(id(forward))["Put@"+owner]
		if put == nil {
			return false
		}
		phases := collected.below(id(put))
		return phases["queue@"+owner] != nil && phases["commit@"+owner] != nil && phases["apply@"+owner] != nil
	})
	collected.mu.Lock()
	defer collected.mu.Unlock()
	for _, s := range collected.spans {
		if hex.EncodeToString(s.GetTraceId()) != trace {
			t.Errorf("%s of %s has no caller that samples it", s.GetName(), collected.node[s])
		}
		if s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
			t.Errorf("%s ends before it begins", s.GetName())
		}
	}
}
