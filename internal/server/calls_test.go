package server

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestErrorsBecomeStatuses(t *testing.T) {
	r := newRig(t)
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return nil, kv.Errorf(kv.Invalid, "key is empty")
	}
	_, err := r.Get(t.Context(), &serverpb.GetRequest{})
	wantCode(t, err, codes.InvalidArgument, "key is empty")
	r.service.iterate = func(*serverpb.IterateRequest, grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		return kv.Errorf(kv.Corrupt, "block 7")
	}
	wantCode(t, drainIterate(t, r), codes.DataLoss, "block 7")
	_, err = r.Put(t.Context(), &serverpb.PutRequest{})
	wantCode(t, err, codes.Unimplemented, "method Put not implemented")
}

// drainIterate runs an iteration and returns how it ends; nil at its end.
func drainIterate(t testing.TB, r *rig) error {
	t.Helper()
	stream, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func TestRequestsInFlightAreLimited(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxInFlight = 2 })
	begun, release := r.service.hold()
	first, second := r.call("1"), r.call("2")
	<-begun
	<-begun
	wantCode(t, <-r.call("3"), codes.ResourceExhausted,
		"2 requests are under way, which is the limit (max-requests-in-flight); retry later (not applied)")
	// A busy node is not a dead one.
	if _, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	if got := r.gauge("dkv_requests_in_flight"); got != 2 {
		t.Errorf("%v requests in flight", got)
	}
	release()
	if err := errors.Join(<-first, <-second, <-r.call("4")); err != nil {
		t.Error(err)
	}
	if got := r.gauge("dkv_requests_in_flight"); got != 0 {
		t.Errorf("%v requests in flight", got)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxStreams = 1 })
	gate := make(chan struct{})
	r.service.iterate = func(_ *serverpb.IterateRequest, s grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		if err := s.Send(&serverpb.IterateResponse{}); err != nil {
			return err
		}
		<-gate
		return nil
	}
	first, err := r.Iterate(t.Context(), &serverpb.IterateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Recv(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, drainIterate(t, r), codes.ResourceExhausted, "1 streams are open, which is the limit (max-streams); retry later")
	if got := r.gauge("dkv_streams"); got != 1 {
		t.Errorf("%v streams", got)
	}
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
		t.Errorf("a unary call: %v", err)
	}
	close(gate)
	if _, err := first.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := drainIterate(t, r); err != nil {
		t.Error(err)
	}
}

// replication is a change stream that stays open until a gate is closed.
type replication struct {
	serverpb.UnimplementedDKVReplicationServer
	gate chan struct{}
	size int
}

func (s *replication) StreamChanges(_ *serverpb.StreamChangesRequest, stream grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	if err := stream.Send(&serverpb.GetChangesResponse{HistoryId: strings.Repeat("h", s.size)}); err != nil {
		return err
	}
	<-s.gate
	return nil
}

// WatchChanges sends one response, and goes on until its client leaves.
func (s *replication) WatchChanges(_ *serverpb.WatchChangesRequest, stream grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	if err := stream.Send(&serverpb.GetChangesResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// withReplication adds a change stream to a rig's services.
func withReplication(s *replication) func(*Options) {
	return func(o *Options) {
		register := o.Register
		o.Register = func(r grpc.ServiceRegistrar) {
			register(r)
			serverpb.RegisterDKVReplicationServer(r, s)
		}
	}
}

// The streams of slaves and those of clients do not take each other's places.
func TestStreamsOfNodesAreCountedApart(t *testing.T) {
	s := &replication{gate: make(chan struct{})}
	r := newRig(t, withReplication(s), func(o *Options) { o.MaxStreams = 1 })
	follow := func() error {
		stream, err := serverpb.NewDKVReplicationClient(r.conn).StreamChanges(t.Context(), &serverpb.StreamChangesRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := follow(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, follow(), codes.ResourceExhausted, "1 streams of other nodes are open, which is the limit (max-streams); retry later")
	if err := drainIterate(t, r); err != nil {
		t.Errorf("a client's stream beside that of a slave: %v", err)
	}
	if got := r.gauge("dkv_streams"); got != 1 {
		t.Errorf("%v streams", got)
	}
	close(s.gate)
}

// A change goes out however large it is: its receiver could not go on without it.
func TestLargeChangesAreSent(t *testing.T) {
	s := &replication{gate: make(chan struct{}), size: 2 << 20}
	close(s.gate)
	r := newRig(t, withReplication(s))
	stream, err := serverpb.NewDKVReplicationClient(r.conn).StreamChanges(t.Context(), &serverpb.StreamChangesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || len(m.GetHistoryId()) != s.size {
		t.Errorf("%d bytes, %v", len(m.GetHistoryId()), err)
	}
}

// Requests that may be as large as a message are bounded by the memory that they
// may take together.
func TestMemoryIsLimited(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.MaxMemory = 2 << 20
		o.Memory = func(method string, _ any) int64 {
			if method == serverpb.DKV_Get_FullMethodName {
				return 1 << 20
			}
			return 0
		}
	})
	begun, release := r.service.hold()
	first, second := r.call("1"), r.call("2")
	<-begun
	<-begun
	err := <-r.call("3")
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "max-memory-in-flight") || !strings.Contains(err.Error(), "(not applied)") {
		t.Errorf("beyond the memory: %v", err)
	}
	if _, err := r.Put(t.Context(), &serverpb.PutRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a small request: %v", err)
	}
	release()
	if err := errors.Join(<-first, <-second, <-r.call("4")); err != nil {
		t.Error(err)
	}
}

// Watching a node's health takes no client's place.
func TestHealthWatchesAreCountedApart(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxStreams, o.MaxInFlight = 1, 1 })
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	if got := r.gauge("dkv_streams"); got != 0 {
		t.Errorf("%v streams", got)
	}
	if got := r.gauge("dkv_health_watches"); got != 1 {
		t.Errorf("%v watches", got)
	}
	if err := drainIterate(t, r); err != nil {
		t.Error(err)
	}
}

func TestPanicIsContained(t *testing.T) {
	r := newRig(t)
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) { panic("boo") }
	r.service.iterate = func(*serverpb.IterateRequest, grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		panic("boo")
	}
	for range 2 {
		_, err := r.Get(t.Context(), &serverpb.GetRequest{})
		wantCode(t, err, codes.Internal, "Get failed by a bug in the server (outcome unknown); its log holds the details")
		wantCode(t, drainIterate(t, r), codes.Internal, "Iterate failed by a bug in the server (outcome unknown); its log holds the details")
	}
	r.service.get = nil
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
		t.Error(err)
	}
	if got := r.gauge("dkv_requests_in_flight") + r.gauge("dkv_streams"); got != 0 {
		t.Errorf("%v requests are still counted", got)
	}
	line := strings.Join(r.log.Lines(), "")
	for _, want := range []string{`msg="a request panicked; this is a bug" method=/dkv.serverpb.DKV/Get panic=boo`, "calls_test.go"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log lacks %q: %s", want, line)
		}
	}
}

func TestMessageSizeIsLimited(t *testing.T) {
	r := newRig(t)
	_, err := r.Get(t.Context(), &serverpb.GetRequest{Key: make([]byte, 1<<20)})
	wantCode(t, err, codes.ResourceExhausted, "grpc: received message larger than max (1048580 vs. 1048576)")
}

func TestSlowLog(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SlowThreshold = time.Nanosecond })
	for _, key := range []string{"key", "a key that is longer than a log line shows"} {
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{Key: []byte(key)}); err != nil {
			t.Fatal(err)
		}
	}
	r.service.get = func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return nil, kv.Errorf(kv.Invalid, "no")
	}
	_, _ = r.Get(t.Context(), &serverpb.GetRequest{})
	wantLines(t, r.log, []string{
		`level=WARN msg="slow request" op=Get code=OK took=T key="\"key\"" request_bytes=5 response_bytes=7`,
		`level=WARN msg="slow request" op=Get code=OK took=T key="\"a key that is lo\"..." request_bytes=44 response_bytes=46`,
		`level=WARN msg="slow request" op=Get code=InvalidArgument took=T key="\"\"" request_bytes=0 response_bytes=0`,
	})
}

// What a handler notes in the trace of its context is in the line.
func TestSlowLogSaysWhereTheTimeWent(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SlowThreshold = time.Nanosecond })
	r.service.get = func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		ctx, cancel := context.WithCancel(ctx) // as replicas derive contexts of their own
		defer cancel()
		kv.TraceOf(ctx).Since(kv.Read, time.Now().Add(-time.Hour))
		return &serverpb.GetResponse{}, nil
	}
	for range 2 { // each request has a trace of its own
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	lines := r.log.Lines()
	if len(lines) != 2 || strings.Count(strings.Join(lines, ""), " read=1h0m0.") != 2 {
		t.Errorf("%q", lines)
	}
}

// A node that logs no slow requests does not measure where their time goes.
func TestNoTraceWithoutSlowLog(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SlowThreshold = 0 })
	r.service.get = func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		if kv.TraceOf(ctx) != nil {
			return nil, kv.Errorf(kv.Invalid, "there is a trace")
		}
		return &serverpb.GetResponse{}, nil
	}
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
		t.Error(err)
	}
}

func TestFastRequestsAreNotLogged(t *testing.T) {
	for _, threshold := range []time.Duration{0, time.Hour} {
		r := newRig(t, func(o *Options) { o.SlowThreshold = threshold })
		if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
			t.Fatal(err)
		}
		wantLines(t, r.log, nil)
	}
}

// TestAuditLog: every administrative call, whatever it came to, with who asked.
func TestAuditLog(t *testing.T) {
	r := newRig(t)
	node := serverpb.NewDKVNodeClient(r.conn)
	_, err := node.PauseWrites(t.Context(), &emptypb.Empty{})
	wantCode(t, err, codes.FailedPrecondition, "not now")
	_, _ = node.ResumeWrites(t.Context(), &emptypb.Empty{}) // not audited here
	wantLines(t, r.audit, []string{
		`level=INFO msg=audit op=PauseWrites address=ADDR kind=open code=FailedPrecondition error="not now"`,
	})
	wantLines(t, r.log, nil)
}

// TestAuditOfStreams: an administrative call whose answers are a stream is logged with what it
// asks for, too, and is not made if that cannot be written.
func TestAuditOfStreams(t *testing.T) {
	audits, path := auditTo(t, true)
	made := 0
	r := newRig(t, func(o *Options) {
		o.Audit, o.Audited = audits, func(method string) bool { return strings.HasSuffix(method, "/InjectFault") }
	})
	r.service.inject = func(*serverpb.InjectFaultRequest) { made++ }
	call := func() error {
		stream, err := serverpb.NewDKVNodeClient(r.conn).InjectFault(t.Context(), &serverpb.InjectFaultRequest{Kind: "unreachable", Millis: 5000, Address: "10.0.0.9:8080"})
		if err != nil {
			return err
		}
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := call(); !errors.Is(err, io.EOF) || made != 1 {
		t.Fatalf("%v after %d calls", err, made)
	}
	line := strings.Join(strings.Fields(read(t, path)), " ")
	if want := `"op":"InjectFault","what":"kind:\"unreachable\" millis:5000 address:\"10.0.0.9:8080\"","phase":"begin"}`; !strings.Contains(line, want) {
		t.Errorf("no %s in %s", want, line)
	}
	if err := audits.Close(); err != nil {
		t.Fatal(err)
	}
	if err := call(); status.Code(err) != codes.Unavailable || made != 1 {
		t.Errorf("%v after %d calls, without an audit log", err, made)
	}
}

// TestAdministrativeCallsOfOtherHosts: they are refused by where they come from, before
// anything is done, and leave a line in the audit log.
func TestAdministrativeCallsOfOtherHosts(t *testing.T) {
	r := newRig(t, from("192.0.2.1"), func(o *Options) { o.Access = access.NewGuard(access.Options{Exposure: access.ExposedData}) })
	_, err := serverpb.NewDKVNodeClient(r.conn).PauseWrites(t.Context(), &emptypb.Empty{})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "administrative calls are taken from this machine") {
		t.Error(err)
	}
	if _, err := r.Get(t.Context(), &serverpb.GetRequest{}); err != nil {
		t.Error(err)
	}
	if lines := r.audit.Lines(); len(lines) != 1 || !strings.Contains(lines[0], "op=PauseWrites address=192.0.2.1:1 kind=open code=PermissionDenied") {
		t.Errorf("audited %q", lines)
	}
}

// TestAuditLogFallsBack: without a log of its own the audit goes to the common
// one.
func TestAuditLogFallsBack(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Audit = nil })
	_, _ = serverpb.NewDKVNodeClient(r.conn).PauseWrites(t.Context(), &emptypb.Empty{})
	if got := r.log.Lines(); len(got) != 1 || !strings.Contains(got[0], "msg=audit") {
		t.Errorf("logged %q", got)
	}
}

var volatile = regexp.MustCompile(`(took=)\S+(?: queue=\S+)?|(peer=|address=)127\.0\.0\.1:\d+`)

func wantLines(t *testing.T, log *testkit.Log, want []string) {
	t.Helper()
	got := log.Lines()
	for i, line := range got {
		line = strings.TrimSuffix(line, "\n")
		got[i] = volatile.ReplaceAllStringFunc(line, func(s string) string {
			if strings.HasPrefix(s, "took=") {
				return "took=T"
			}
			name, _, _ := strings.Cut(s, "=")
			return name + "=ADDR"
		})
	}
	if len(got) != len(want) {
		t.Fatalf("logged %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("logged %s\nwant   %s", got[i], want[i])
		}
	}
}

// A server that stops does not wait for streams that go on for as long as clients
// like, or for hours.
func TestEndlessStreams(t *testing.T) {
	for name, want := range map[string]bool{
		"grpc.health.v1.Health/Watch":                              true,
		"grpc.reflection.v1.ServerReflection/ServerReflectionInfo": true,
		"dkv.serverpb.DKVReplication/StreamChanges":                true,
		"dkv.serverpb.DKVReplication/StreamSnapshot":               true,
		"dkv.serverpb.DKVReplication/WatchChanges":                 true,
		"dkv.serverpb.DKVDiscovery/WatchClusterInfo":               true,
		"dkv.serverpb.DKVNode/InjectFault":                         true,
		"dkv.serverpb.DKV/Iterate":                                 false,
		"dkv.serverpb.DKVReplication/GetChanges":                   false,
	} {
		service, method, _ := strings.Cut(name, "/")
		if got := endless(service, method); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
