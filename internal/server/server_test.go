package server

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
)

func (r *rig) health(service string) healthpb.HealthCheckResponse_ServingStatus {
	r.t.Helper()
	resp, err := healthpb.NewHealthClient(r.conn).Check(r.t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.GetStatus()
}

func TestHealth(t *testing.T) {
	r := newRig(t)
	const serving, notServing = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	for _, step := range []struct {
		set  *bool
		want healthpb.HealthCheckResponse_ServingStatus
	}{{nil, notServing}, {new(true), serving}, {new(false), notServing}} {
		if step.set != nil {
			r.SetServing(*step.set)
		}
		if r.Serving() != (step.want == serving) {
			t.Errorf("serving is %v", r.Serving())
		}
		for _, service := range []string{"", "dkv.serverpb.DKV", "dkv.serverpb.DKVNode"} {
			if got := r.health(service); got != step.want {
				t.Errorf("health of %q is %v, want %v", service, got, step.want)
			}
		}
	}
	_, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nothing"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("health of a service that is not there: %v", err)
	}
}

func TestReflection(t *testing.T) {
	r := newRig(t)
	stream, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	resp := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	})
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	want := []string{
		"dkv.peerpb.Forwarding", "dkv.serverpb.DKV", "dkv.serverpb.DKVDiscoveryNode", "dkv.serverpb.DKVNode", "grpc.health.v1.Health",
		"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
	}
	if !slices.Equal(names, want) {
		t.Errorf("services %q, want %q", names, want)
	}
	resp = ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "dkv.serverpb.DKV"},
	})
	if len(resp.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("no description of DKV: %v", resp)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

// TestDrain ends the server during a request: the request is finished, new
// ones are rejected, and watchers of the health are notified.
func TestDrain(t *testing.T) {
	r := newRig(t)
	r.SetServing(true)
	begun, release := r.service.hold()
	running := r.call("k")
	<-begun
	watch, err := healthpb.NewHealthClient(r.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := watch.Recv(); err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", resp, err)
	}
	r.stop()
	// The watcher is told, unless its stream, which would go on for ever, is
	// ended first.
	for err == nil {
		var resp *healthpb.HealthCheckResponse
		if resp, err = watch.Recv(); err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v", resp.GetStatus())
		}
	}
	if r.Serving() {
		t.Error("it says that it serves")
	}
	select {
	case err := <-running:
		t.Fatalf("the running request ended with %v", err)
	case <-r.ran:
		t.Fatal("the server did not wait for the running request")
	default:
	}
	for closed := false; !closed; { // new connections are refused, as soon as the drain gets there
		conn, err := net.Dial("tcp", r.opts.Listener.Addr().String())
		if closed = err != nil; !closed {
			conn.Close()
		}
	}
	other := dial(t, r.opts.Listener.Addr())
	defer other.Close()
	_, err = serverpb.NewDKVClient(other).Get(t.Context(), &serverpb.GetRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a new request: %v", err)
	}
	release()
	if err := <-running; err != nil {
		t.Errorf("the running request: %v", err)
	}
	<-r.ran
	if r.runErr != nil {
		t.Error(r.runErr)
	}
}

// TestDrainIsForced: a request that does not end by itself is cut off.
func TestDrainIsForced(t *testing.T) {
	r := newRig(t, func(o *Options) { o.DrainTimeout = time.Millisecond })
	begun, release := r.service.hold()
	defer release()
	running := r.call("k")
	<-begun
	r.stop()
	<-r.ran
	if err := <-running; status.Code(err) != codes.Unavailable {
		t.Errorf("the running request: %v", err)
	}
}

// TestDrainDependsOnTheCause: for some reasons to stop, requests are not waited for.
func TestDrainDependsOnTheCause(t *testing.T) {
	hurry := errors.New("hurry")
	r := newRig(t, func(o *Options) {
		o.DrainFor = func(cause error) time.Duration {
			if errors.Is(cause, hurry) {
				return time.Millisecond
			}
			return time.Hour
		}
	})
	begun, release := r.service.hold()
	defer release()
	running := r.call("k")
	<-begun
	r.stopFor(hurry)
	<-r.ran
	if err := <-running; status.Code(err) != codes.Unavailable {
		t.Errorf("the running request: %v", err)
	}
}

// slaved serves streams of changes and of confirmations until their contexts end.
type slaved struct {
	peerpb.UnimplementedStandbyServer
	serverpb.UnimplementedDKVReplicationServer
}

func (slaved) Confirm(stream peerpb.Standby_ConfirmServer) error {
	if err := stream.Send(&peerpb.Wanted{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

func (slaved) StreamChanges(_ *serverpb.StreamChangesRequest, stream serverpb.DKVReplication_StreamChangesServer) error {
	if err := stream.Send(&serverpb.GetChangesResponse{}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return context.Cause(stream.Context())
}

// TestConfirmationsLastAsLongAsRequests: requests under way may wait when the server drains until a
// slave has their changes. When they are answered, the streams of slaves do not hold up the stop.
func TestConfirmationsLastAsLongAsRequests(t *testing.T) {
	r := newRig(t, func(o *Options) {
		register := o.Register
		o.Register = func(to grpc.ServiceRegistrar) {
			register(to)
			peerpb.RegisterStandbyServer(to, slaved{})
			serverpb.RegisterDKVReplicationServer(to, slaved{})
		}
		o.DrainTimeout = time.Hour
	})
	confirmations, err := peerpb.NewStandbyClient(r.conn).Confirm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes, err := serverpb.NewDKVReplicationClient(r.conn).StreamChanges(t.Context(), &serverpb.StreamChangesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for name, recv := range map[string]func() error{
		"confirmations": func() error { _, err := confirmations.Recv(); return err },
		"changes":       func() error { _, err := changes.Recv(); return err },
	} {
		if err := recv(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		go func() { ended <- recv() }()
	}
	begun, release := r.service.hold()
	running := r.call("k")
	<-begun
	r.stop()
	select {
	case err := <-ended:
		t.Fatalf("a stream ended before the request: %v", err)
	case <-time.After(10 * answersLook):
	}
	release()
	if err := <-running; err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-ended; status.Code(err) != codes.Unavailable {
			t.Errorf("a stream ended with %v", err)
		}
	}
	<-r.ran
}

// TestReflectionStreamEndsAtDrain: it is open for as long as a client likes.
func TestReflectionStreamEndsAtDrain(t *testing.T) {
	r := newRig(t)
	stream, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := stream.Recv(); err == nil {
		t.Error("it goes on")
	}
	<-r.ran
}

func TestCloseBeforeRun(t *testing.T) {
	opts, _, _ := options(t, &service{})
	s := New(opts)
	s.Close()
	s.Close()
	if err := s.Run(context.Background()); err == nil {
		t.Error("a closed server runs")
	}
	opts.Listener.Close()
}

// TestRunOfEndedContext: a signal may come before the server has begun.
func TestRunOfEndedContext(t *testing.T) {
	for range 20 {
		opts, _, _ := options(t, &service{})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := New(opts).Run(ctx); err != nil {
			t.Fatal(err)
		}
		opts.Listener.Close()
	}
}

func TestRunFailsWithItsListener(t *testing.T) {
	opts, _, _ := options(t, &service{})
	opts.Listener.Close()
	err := New(opts).Run(context.Background())
	if !errors.Is(err, net.ErrClosed) || !strings.HasPrefix(err.Error(), "gRPC server: ") {
		t.Errorf("error %v", err)
	}
}

func TestListen(t *testing.T) {
	taken, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for addr, want := range map[string]string{
		addr:              "listen-addr " + addr + " is taken by another process; stop it or choose another port",
		"192.0.2.1:8080":  "listen-addr 192.0.2.1:8080 is no address of this machine; use one that is, or 0.0.0.0 for all",
		"127.0.0.1":       "listen-addr 127.0.0.1: listen tcp: address 127.0.0.1: missing port in address; write an address of this machine with a free port",
		"127.0.0.1:x":     "listen-addr 127.0.0.1:x: listen tcp: lookup tcp/x: unknown port; write an address of this machine with a free port",
		"127.0.0.1:99999": "listen-addr 127.0.0.1:99999: listen tcp: address 99999: invalid port; write an address of this machine with a free port",
	} {
		l, err := Listen(addr)
		if err == nil {
			l.Close()
			t.Errorf("%s: it listens", addr)
		} else if err.Error() != want {
			t.Errorf("%s: error %q, want %q", addr, err, want)
		}
	}
}
