package app

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth/token"
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

// below are the spans of a name below one.
func (r *receiver) below(parent, name string) (out []*spans.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if hex.EncodeToString(s.GetParentSpanId()) == parent && s.GetName() == name {
			out = append(out, s)
		}
	}
	return out
}

// path returns the last span of a path of names below one; nil if there is no such path.
func (r *receiver) path(parent string, names ...string) *spans.Span {
	for _, s := range r.below(parent, names[0]) {
		if len(names) == 1 {
			return s
		}
		if last := r.path(hex.EncodeToString(s.GetSpanId()), names[1:]...); last != nil {
			return last
		}
	}
	return nil
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
	lead(t, nodes)
	var clients []serverpb.DKVClient
	for _, n := range nodes {
		clients = append(clients, serverpb.NewDKVClient(connect(t, n.listen)))
	}
	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+caller+"-01")
	var put *spans.Span
	testkit.Eventually(t, "the tree of spans is whole", func() bool {
		for _, c := range clients { // all but one of them forward it
			_, _ = c.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: []byte("v")})
		}
		commit := collected.path(caller, "Put", "forward", "Put", "commit")
		put = collected.path(caller, "Put", "forward", "Put")
		return commit != nil && collected.path(caller, "Put", "queue") != nil && collected.path(caller, "Put", "forward", "Put", "apply") != nil
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
	for _, s := range collected.spans {
		if id := s.GetSpanId(); string(id) == string(put.GetParentSpanId()) && collected.node[s] == collected.node[put] {
			t.Errorf("%s forwards a put to itself", collected.node[s])
		}
	}
}

// attributes are the numbers that a span has.
func attributes(s *spans.Span) map[string]int64 {
	out := make(map[string]int64)
	for _, a := range s.GetAttributes() {
		out[a.GetKey()] = a.GetValue().GetIntValue()
	}
	return out
}

// TestRequestsByHTTPHaveSpans: with those of the calls for keys that they make below them.
func TestRequestsByHTTPHaveSpans(t *testing.T) {
	collected, endpoint := newReceiver(t)
	_, at := serve(t, "--trace-endpoint", endpoint, "--trace-sample", "0")
	const caller = "b7ad6b7169203331"
	for _, parent := range []string{"", "00-0af7651916cd43dd8448eb211c80319c-" + caller + "-01"} { // the first is not sampled
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+at+"/data/put", strings.NewReader(`{"key":"k","value":"v"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("traceparent", parent)
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	testkit.Eventually(t, "the spans are there", func() bool {
		return collected.path(caller, "POST /data/put", "Put", "commit") != nil
	})
	if s := collected.path(caller, "POST /data/put"); attributes(s)["http.response.status_code"] != http.StatusOK {
		t.Errorf("%v", s)
	}
	if n := len(collected.below("", "POST /data/put")) + len(collected.below("", "Put")); n != 0 {
		t.Errorf("%d spans of requests that are not sampled", n)
	}
}

// TestStrangersHaveNoSpans: whatever they send as the caller's span, by gRPC and HTTP. Spans are
// exported in their order, so those of strangers would be there with that of the accepted caller.
func TestStrangersHaveNoSpans(t *testing.T) {
	good := token.New()
	hash, err := token.Hash(good)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte("identities:\n  - name: app\n    tokens: ["+hash+"]\n    grants: [{role: admin}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	collected, endpoint := newReceiver(t)
	at, web := serve(t, "--trace-endpoint", endpoint, "--trace-sample", "0", "--auth-file", file)
	client := serverpb.NewDKVClient(connect(t, at))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-"
	for _, caller := range []struct{ span, bearer string }{{"00000000000000aa", "wrong"}, {"00000000000000bb", good}} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", trace+caller.span+"-01", "authorization", "Bearer "+caller.bearer)
		_, _ = client.Get(ctx, &serverpb.GetRequest{Key: []byte("k")})
		if stream, err := client.Iterate(ctx, &serverpb.IterateRequest{}); err == nil {
			_, _ = stream.Recv()
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+web+"/admin/cluster/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Traceparent": {trace + caller.span + "-01"}, "Authorization": {"Bearer " + caller.bearer}}
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
	}
	names := []string{"Get", "Iterate", "GET /admin/cluster/status"}
	testkit.Eventually(t, "the spans of the accepted caller are there", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return len(collected.below("00000000000000bb", name)) == 0 })
	})
	for _, name := range names {
		if n := len(collected.below("00000000000000aa", name)); n > 0 {
			t.Errorf("%d spans of a stranger's %s", n, name)
		}
	}
}

// TestStreamIsOneSpan: which says how many messages it had.
func TestStreamIsOneSpan(t *testing.T) {
	collected, endpoint := newReceiver(t)
	at, _ := serve(t, "--trace-endpoint", endpoint, "--trace-sample", "0")
	client := serverpb.NewDKVClient(connect(t, at))
	for i := range 3 {
		if _, err := client.Put(t.Context(), &serverpb.PutRequest{Key: []byte{'k', byte(i)}, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
	}
	const caller = "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-"+caller+"-01")
	stream, err := client.Iterate(ctx, &serverpb.IterateRequest{KeyPrefix: []byte("k")})
	messages := int64(0)
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			messages++
		}
	}
	if !errors.Is(err, io.EOF) || messages == 0 {
		t.Fatalf("%d messages, %v", messages, err)
	}
	testkit.Eventually(t, "the span is there", func() bool { return len(collected.below(caller, "Iterate")) > 0 })
	of := collected.below(caller, "Iterate")
	if got := attributes(of[0]); len(of) != 1 || got["dkv.messages_sent"] != messages || got["dkv.messages_received"] != 1 || got["dkv.bytes_sent"] == 0 {
		t.Errorf("%d messages, and the spans %v", messages, of)
	}
}
