package drills

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// node answers status calls.
type node struct {
	serverpb.UnimplementedDKVNodeServer
}

func (node) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	return &serverpb.NodeStatusResponse{NodeName: "n1"}, nil
}

// serve serves a node whose connections its faults concern.
func serve(t *testing.T, s *Service) (connect func() serverpb.DKVNodeClient) {
	t.Helper()
	s.DKVNodeServer, s.Name = node{}, "this node (n1)"
	if s.Others == nil {
		s.Others = func() ([]cluster.Peer, bool) { return nil, true }
	}
	connect, _ = start(t, s)
	return connect
}

// start is serve for a test that stops the node.
func start(t *testing.T, s *Service) (connect func() serverpb.DKVNodeClient, stop func()) {
	server := servertest.Start(t, servertest.Options{
		Listener: s.Faults.Listen(testkit.Listen(t), false),
		Register: func(r grpc.ServiceRegistrar) { serverpb.RegisterDKVNodeServer(r, s) },
		Drain:    testkit.Patience,
	})
	return func() serverpb.DKVNodeClient {
		conn, err := grpc.NewClient(server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return serverpb.NewDKVNodeClient(conn)
	}, server.Stop
}

// TestStopOfTheNodeEndsItsFault: the node does not wait for the drill, whose caller is told.
func TestStopOfTheNodeEndsItsFault(t *testing.T) {
	f := agreed()
	s := &Service{DKVNodeServer: node{}, Faults: f}
	connect, stop := start(t, s)
	stream, err := connect().InjectFault(t.Context(), &serverpb.InjectFaultRequest{Kind: "silent", Millis: 60_000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the node is shutting down") {
		t.Errorf("the caller is told %v", err)
	}
	<-stopped
	if f.Now() != nil {
		t.Errorf("the node has stopped with a fault: %v", f.Now())
	}
}

func agreed() *faults.Faults { return faults.New(slog.New(slog.DiscardHandler)) }

// inject returns the first state of a fault, or why there is none.
func inject(ctx context.Context, c serverpb.DKVNodeClient, r *serverpb.InjectFaultRequest) (*serverpb.FaultState, error) {
	stream, err := c.InjectFault(ctx, r)
	if err != nil {
		return nil, err
	}
	return stream.Recv()
}

func TestRejectedByName(t *testing.T) {
	whole := cluster.Peer{Node: "n2", Healthy: true, Status: &serverpb.NodeStatusResponse{}}
	others := func(asked bool, peers ...cluster.Peer) func() ([]cluster.Peer, bool) {
		return func() ([]cluster.Peer, bool) { return peers, asked }
	}
	// A node that others cannot reach by Raft still answers: its fault is only in its status.
	partitioned := cluster.Peer{Node: "n3", Healthy: true, Status: &serverpb.NodeStatusResponse{Fault: "a drill: no connection to others"}}
	silent := &serverpb.InjectFaultRequest{Kind: "silent", Millis: 1000, Check: true}
	for _, c := range []struct {
		service Service
		request *serverpb.InjectFaultRequest
		code    codes.Code
		says    string
	}{
		{Service{}, silent, codes.FailedPrecondition, "this node (n1) has not agreed to drills: start it with allow-drills: true"},
		{Service{Faults: agreed(), Raft: true, Others: others(true, whole, cluster.Peer{Node: "n3"})}, silent, codes.FailedPrecondition, "n3 cannot be reached"},
		{Service{Faults: agreed(), Raft: true, Others: others(true, whole, partitioned)}, silent, codes.FailedPrecondition, "n3 has a fault (a drill: no connection to others)"},
		{Service{Faults: agreed(), Raft: true, Others: others(false, whole)}, silent, codes.FailedPrecondition, "this node (n1) has not asked the other members yet"},
		{Service{Faults: agreed()}, &serverpb.InjectFaultRequest{Kind: "slow-disk", Millis: 1, DelayMillis: 1}, codes.FailedPrecondition, "no Raft log"},
		{Service{Faults: agreed()}, &serverpb.InjectFaultRequest{Kind: "unreachable", Millis: 1, Address: "a:1"}, codes.FailedPrecondition, "is no slave"},
		{Service{Faults: agreed(), Master: func() string { return "" }}, &serverpb.InjectFaultRequest{Kind: "unreachable", Millis: 1}, codes.FailedPrecondition, "follows no master"},
		{Service{Faults: agreed()}, &serverpb.InjectFaultRequest{Kind: "fire", Millis: 1}, codes.InvalidArgument, "not a fault"},
		{Service{Faults: agreed()}, &serverpb.InjectFaultRequest{Kind: "silent", Millis: 1 << 63}, codes.InvalidArgument, "up to 1m0s"},
	} {
		_, err := inject(t.Context(), serve(t, &c.service)(), c.request)
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q", c.request, err, c.says)
		}
	}
	f := agreed()
	state, err := inject(t.Context(), serve(t, &Service{Faults: f, Raft: true})(), silent)
	if err != nil || state.GetState() != "agreed" || f.Now() != nil {
		t.Errorf("%v, %v, %v", state, err, f.Now())
	}
}

// TestCallerHearsASilentNode: the call that has begun a fault goes on, no other does, and the
// fault is over when the caller is gone.
func TestCallerHearsASilentNode(t *testing.T) {
	f := agreed()
	connect := serve(t, &Service{Faults: f})
	caller, other := connect(), connect()
	if s, err := other.GetNodeStatus(t.Context(), &emptypb.Empty{}); err != nil || s.GetFault() != "" {
		t.Fatalf("%v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if state, err := inject(ctx, caller, &serverpb.InjectFaultRequest{Kind: "silent", Millis: 60_000}); err != nil || state.GetState() != "active" {
		t.Fatalf("%v, %v", state, err)
	}
	short, done := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer done()
	if _, err := other.GetNodeStatus(short, &emptypb.Empty{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("another client is told %v", err)
	}
	if s, err := caller.GetNodeStatus(t.Context(), &emptypb.Empty{}); err != nil || !strings.Contains(s.GetFault(), "hears and says nothing") {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := inject(ctx, caller, &serverpb.InjectFaultRequest{Kind: "silent", Millis: 1000}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "another drill") {
		t.Errorf("a second fault: %v", err)
	}
	cancel()
	testkit.Eventually(t, "the fault is over", func() bool { return f.Now() == nil })
	if _, err := other.GetNodeStatus(t.Context(), &emptypb.Empty{}); err != nil {
		t.Error(err)
	}
}

// TestCallEndsWithTheFault, whose caller waits for that.
func TestCallEndsWithTheFault(t *testing.T) {
	stream, err := serve(t, &Service{Faults: agreed()})().InjectFault(t.Context(), &serverpb.InjectFaultRequest{Kind: "silent", Millis: 20})
	if err != nil {
		t.Fatal(err)
	}
	var last *serverpb.FaultState
	for {
		state, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		last = state
	}
	if last.GetState() != "ended" {
		t.Errorf("the last state is %v", last)
	}
}
