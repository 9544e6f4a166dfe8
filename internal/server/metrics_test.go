package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// family gathers one metric family; a registry refuses to gather duplicates.
func (r *rig) family(name string) []*dto.Metric {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal("gather:", err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// text renders metric families as a scrape shows them.
func (r *rig) text(names ...string) string {
	r.t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		r.t.Fatal("gather:", err)
	}
	var out strings.Builder
	for _, name := range names {
		for _, f := range families {
			if f.GetName() != name {
				continue
			}
			if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return out.String()
}

func (r *rig) gauge(name string) float64 {
	r.t.Helper()
	ms := r.family(name)
	if len(ms) != 1 {
		r.t.Fatalf("%s has %d series", name, len(ms))
	}
	return ms[0].GetGauge().GetValue()
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	for range 3 {
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte("k")}); err != nil {
			t.Fatal(err)
		}
	}
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return nil, kv.Errorf(kv.Invalid, "no")
	}
	_, _ = r.Get(t.Context(), &serverpb.GetRequest{})
	if err := drainIterate(t, r); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP dkv_requests_total Requests finished, by operation and gRPC status code.
# TYPE dkv_requests_total counter
dkv_requests_total{code="InvalidArgument",op="Get"} 1
dkv_requests_total{code="OK",op="Get"} 3
dkv_requests_total{code="OK",op="Iterate"} 1
# HELP grpc_server_handled_total RPCs finished, by method and status code.
# TYPE grpc_server_handled_total counter
grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Get",grpc_service="dkv.serverpb.DKV",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="Get",grpc_service="dkv.serverpb.DKV",grpc_type="unary"} 3
grpc_server_handled_total{grpc_code="OK",grpc_method="Iterate",grpc_service="dkv.serverpb.DKV",grpc_type="server_stream"} 1
# HELP dkv_connections Open gRPC connections.
# TYPE dkv_connections gauge
dkv_connections 1
`
	if got := r.text("dkv_requests_total", "grpc_server_handled_total", "dkv_connections"); got != want[1:] {
		t.Errorf("metrics:\n%swant:%s", got, want)
	}
	counts := map[string]uint64{}
	for _, m := range r.family("dkv_request_duration_seconds") {
		counts[m.GetLabel()[0].GetValue()] = m.GetHistogram().GetSampleCount()
	}
	if len(counts) != 2 || counts["Get"] != 4 || counts["Iterate"] != 1 {
		t.Errorf("durations %v", counts)
	}
}

// TestEveryMethodIsGathered calls all methods of all services, health and
// reflection included, and gathers: no series may come twice.
func TestEveryMethodIsGathered(t *testing.T) {
	r := newRig(t)
	total := 0
	for name, info := range r.Server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			total++
			full := "/" + name + "/" + m.Name
			ctx, cancel := context.WithCancel(t.Context())
			if !m.IsServerStream {
				_ = r.conn.Invoke(ctx, full, &emptypb.Empty{}, &emptypb.Empty{})
				cancel()
				continue
			}
			stream, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, full)
			if err != nil {
				t.Fatal(full, err)
			}
			_ = stream.SendMsg(&emptypb.Empty{})
			_ = stream.CloseSend()
			if name == "grpc.health.v1.Health" {
				_ = stream.RecvMsg(&emptypb.Empty{}) // goes on until it is cancelled
				cancel()
			}
			for err == nil {
				err = stream.RecvMsg(&emptypb.Empty{})
			}
			cancel()
		}
	}
	r.conn.Close()
	r.stop()
	<-r.ran // every call is counted
	handled := r.family("grpc_server_handled_total")
	if len(handled) != total {
		t.Errorf("%d methods were called, %d are counted", total, len(handled))
	}
	for _, m := range r.family("dkv_requests_total") {
		for _, l := range m.GetLabel() {
			if l.GetName() == "op" && strings.Contains(l.GetValue(), "Reflection") {
				t.Errorf("%s is no operation of ours", l.GetValue())
			}
		}
	}
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestMethodsOfOneName are told apart by their services.
func TestMethodsOfOneName(t *testing.T) {
	c := newCalls(Options{Metrics: prometheus.NewRegistry()}, nil)
	c.know(map[string]grpc.ServiceInfo{
		"dkv.serverpb.A": {Methods: []grpc.MethodInfo{{Name: "Do"}, {Name: "Other"}}},
		"dkv.serverpb.B": {Methods: []grpc.MethodInfo{{Name: "Do"}}},
	})
	want := map[string]string{"/dkv.serverpb.A/Do": "A.Do", "/dkv.serverpb.B/Do": "B.Do", "/dkv.serverpb.A/Other": "Other"}
	for full, op := range want {
		m := c.methods[full]
		if m == nil || m.op != op {
			t.Fatalf("%s: %+v, want op %s", full, m, op)
		}
		m.observe(0, 0)
	}
	if _, err := c.opts.Metrics.(*prometheus.Registry).Gather(); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	r := newRig(t)
	second := dial(t, r.opts.Listener.Addr())
	defer second.Close()
	for _, c := range []serverpb.DKVClient{r.DKVClient, serverpb.NewDKVClient(second)} {
		if _, err := c.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.gauge("dkv_connections"); got != 2 {
		t.Errorf("%v connections", got)
	}
	second.Close()
	r.conn.Close()
	r.stop()
	<-r.ran
	if got := r.gauge("dkv_connections"); got != 0 {
		t.Errorf("%v connections after the end", got)
	}
}

func TestStreamsThatEndInErrorsAreCounted(t *testing.T) {
	r := newRig(t)
	r.service.iterate = func(_ *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		return errors.Join(s.Send(&serverpb.IterateResponse{}), io.ErrUnexpectedEOF)
	}
	if err := drainIterate(t, r); err == nil {
		t.Fatal("it succeeded")
	}
	ms := r.family("dkv_requests_total")
	if len(ms) != 1 || ms[0].GetLabel()[0].GetValue() != "Internal" || ms[0].GetCounter().GetValue() != 1 {
		t.Errorf("requests %v", ms)
	}
}
