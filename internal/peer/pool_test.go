package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a peer: a server that counts its connections.
type site struct {
	serverpb.UnimplementedDKVServer
	t     *testing.T
	addr  string
	conns atomic.Int64 // that are open
	grpc  *grpc.Server

	get     func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error)
	iterate func(grpc.ServerStreamingServer[serverpb.IterateResponse]) error
}

func (s *site) Get(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return s.get(ctx, r)
}

func (s *site) Iterate(_ *serverpb.IterateRequest, stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
	return s.iterate(stream)
}

type counted struct {
	net.Listener
	site *site
}

type countedConn struct {
	net.Conn
	close func()
}

func (c countedConn) Close() error { c.close(); return c.Conn.Close() }

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.site.conns.Add(1)
	return countedConn{Conn: c, close: sync.OnceFunc(func() { l.site.conns.Add(-1) })}, nil
}

func serve(t *testing.T, s *site) *site {
	t.Helper()
	l := testkit.Listen(t)
	s.t, s.grpc = t, grpc.NewServer()
	serverpb.RegisterDKVServer(s.grpc, s)
	s.addr = servertest.Serve(t, s.grpc, counted{Listener: l, site: s}).Addr
	return s
}

func newPool(t *testing.T, opts Options) *Pool {
	if opts.MaxMessageSize == 0 {
		opts.MaxMessageSize = 1 << 20
	}
	p := NewPool(opts)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func peerAt(t *testing.T, p *Pool, addr string) *Peer {
	t.Helper()
	out, err := p.Peer(addr)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const getMethod = serverpb.DKV_Get_FullMethodName

func get(ctx context.Context, p *Peer) (*serverpb.GetResponse, error) {
	out := new(serverpb.GetResponse)
	return out, p.Invoke(ctx, getMethod, &serverpb.GetRequest{Key: []byte("k")}, out)
}

func answers(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
	return &serverpb.GetResponse{Value: []byte("v")}, nil
}

func TestInvoke(t *testing.T) {
	s := serve(t, &site{get: answers})
	pool := newPool(t, Options{})
	p := peerAt(t, pool, s.addr)
	if p.Addr() != s.addr || p.Ready() || s.conns.Load() != 0 {
		t.Error("connected before the first call")
	}
	if err := p.Reach(t.Context()); err != nil || !p.Ready() {
		t.Errorf("%v, ready: %v", err, p.Ready())
	}
	for range 3 {
		if resp, err := get(t.Context(), peerAt(t, pool, s.addr)); err != nil || string(resp.GetValue()) != "v" {
			t.Errorf("%v, %v", resp, err)
		}
	}
	if got := s.conns.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
}

// TestGrowsWhenBusy opens further connections for many calls at once, and no more
// than it may.
func TestGrowsWhenBusy(t *testing.T) {
	const calls = 5 * callsPerConnection
	release := make(chan struct{})
	var under atomic.Int64
	s := serve(t, &site{get: func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		under.Add(1)
		<-release
		return answers(ctx, r)
	}})
	p := peerAt(t, newPool(t, Options{MaxConnections: 2}), s.addr)
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			if _, err := get(t.Context(), p); err != nil {
				t.Error(err)
			}
		})
		testkit.Eventually(t, "the call arrives", func() bool { return under.Load() == int64(i+1) })
		if i < callsPerConnection && s.conns.Load() != 1 {
			t.Fatalf("%d connections for %d calls", s.conns.Load(), i+1)
		}
	}
	testkit.Eventually(t, "both connections stand", func() bool { return s.conns.Load() == 2 })
	conns := *p.conns.Load()
	if len(conns) != 2 || conns[0].calls.Load()+conns[1].calls.Load() != calls || conns[1].calls.Load() < callsPerConnection {
		t.Errorf("%d connections, %d and %d calls", len(conns), conns[0].calls.Load(), conns[1].calls.Load())
	}
	close(release)
	wg.Wait()
	if n := conns[0].calls.Load() + conns[1].calls.Load(); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

func TestRetain(t *testing.T) {
	stays, goes := serve(t, &site{get: answers}), serve(t, &site{get: answers})
	pool := newPool(t, Options{})
	for _, s := range []*site{stays, goes} {
		if _, err := get(t.Context(), peerAt(t, pool, s.addr)); err != nil {
			t.Fatal(err)
		}
	}
	old := peerAt(t, pool, goes.addr)
	pool.Retain(stays.addr, "never:1")
	testkit.Eventually(t, "the connection is closed", func() bool { return goes.conns.Load() == 0 })
	if _, err := get(t.Context(), old); kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("%v, %v", err, kv.OutcomeOf(err))
	}
	if err := old.Reach(t.Context()); err != nil {
		t.Errorf("waits for what will not be: %v", err)
	}
	if stays.conns.Load() != 1 {
		t.Error("the other one went too")
	}
	// It may come back.
	if _, err := get(t.Context(), peerAt(t, pool, goes.addr)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := pool.Peer(stays.addr); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	testkit.Eventually(t, "all are closed", func() bool { return stays.conns.Load()+goes.conns.Load() == 0 })
}

// token is a credential for each call.
type token string

func (k token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(k)}, nil
}

func (token) RequireTransportSecurity() bool { return false }

func TestPerRPCCredentials(t *testing.T) {
	var got []string
	s := serve(t, &site{get: func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		got = metadata.ValueFromIncomingContext(ctx, "authorization")
		return answers(ctx, r)
	}})
	if _, err := get(t.Context(), peerAt(t, newPool(t, Options{PerRPC: token("secret")}), s.addr)); err != nil || fmt.Sprint(got) != "[secret]" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestPeerRestarts holds that a peer that restarts is found again at once.
func TestPeerRestarts(t *testing.T) {
	s := serve(t, &site{get: answers})
	pool := newPool(t, Options{})
	p := peerAt(t, pool, s.addr)
	if _, err := get(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	runs := s.grpc
	testkit.Timely(t, func() error {
		runs.Stop()
		testkit.Eventually(t, "its end is seen", func() bool { return !p.Ready() })
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		runs = grpc.NewServer()
		serverpb.RegisterDKVServer(runs, s)
		servertest.Serve(t, runs, l)
		begin := time.Now()
		testkit.Eventually(t, "it answers", func() bool {
			if err := p.Reach(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, err := get(t.Context(), p)
			return err == nil
		})
		if took := time.Since(begin); took > 2*time.Second {
			return fmt.Errorf("it took %v", took)
		}
		return nil
	})
}

// TestErrors checks what callers decide by.
func TestErrors(t *testing.T) {
	explained := func(code codes.Code, text, domain, reason string) error {
		st, err := status.New(code, text).WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		return st.Err()
	}
	for _, c := range []struct {
		name     string
		err      error
		kind     kv.Kind
		outcome  kv.Outcome
		answered bool
		text     string
		is       error
	}{
		{"not applied", explained(codes.Unavailable, "busy (not applied)", "dkv", kv.ReasonNotApplied), kv.Unavailable, kv.NotApplied, true, "busy (not applied)", nil},
		{"unknown", explained(codes.Unavailable, "cut off (outcome unknown)", "dkv", kv.ReasonUnknown), kv.Unavailable, kv.Unknown, true, "cut off (outcome unknown)", nil},
		{"another cluster", explained(codes.FailedPrecondition, "of another cluster (not applied)", "dkv", kv.ReasonOtherCluster), kv.OtherCluster, kv.NotApplied, true, "of another cluster (not applied)", nil},
		{"too late", explained(codes.FailedPrecondition, "too late (outcome unknown)", "dkv", kv.ReasonTooLate), kv.TooLate, kv.Unknown, true, "too late (outcome unknown)", nil},
		{"not owner", explained(codes.Unavailable, "not me", "dkv", kv.ReasonNotOwner), kv.NotOwner, kv.NotApplied, true, "not me", nil},
		{"a reason to come", explained(codes.Unavailable, "x", "dkv", "LATER"), kv.Unavailable, kv.Unknown, true, "x", nil},
		{"another domain", explained(codes.FailedPrecondition, "x", "other", kv.ReasonNotApplied), kv.Precondition, kv.Unknown, false, "node ADDR: x", nil},
		{"no reason", status.Error(codes.ResourceExhausted, "x"), kv.Exhausted, kv.Unknown, false, "node ADDR: x", nil},
		{"deadline there", explained(codes.DeadlineExceeded, "late", "dkv", kv.ReasonUnknown), kv.Unavailable, kv.Unknown, true, "late", context.DeadlineExceeded},
		{"cancelled there", explained(codes.Canceled, "left", "dkv", kv.ReasonNotApplied), kv.Unavailable, kv.NotApplied, true, "left", context.Canceled},
		{"invalid", explained(codes.InvalidArgument, "x", "dkv", kv.ReasonNotApplied), kv.Invalid, kv.NotApplied, true, "x", nil},
		{"out of range", explained(codes.OutOfRange, "x", "dkv", kv.ReasonNotApplied), kv.OutOfRange, kv.NotApplied, true, "x", nil},
		{"data loss", explained(codes.DataLoss, "x", "dkv", kv.ReasonNotApplied), kv.Corrupt, kv.NotApplied, true, "x", nil},
		{"not found", explained(codes.NotFound, "x", "dkv", kv.ReasonNotApplied), kv.NotFound, kv.NotApplied, true, "x", nil},
		{"unimplemented", explained(codes.Unimplemented, "x", "dkv", kv.ReasonNotApplied), kv.Unimplemented, kv.NotApplied, true, "x", nil},
		{"internal", explained(codes.Internal, "x", "dkv", kv.ReasonUnknown), kv.Internal, kv.Unknown, true, "x", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, &site{
				get:     func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) { return nil, c.err },
				iterate: func(grpc.ServerStreamingServer[serverpb.IterateResponse]) error { return c.err },
			})
			p := peerAt(t, newPool(t, Options{}), s.addr)
			_, err := get(t.Context(), p)
			stream, serr := p.Stream(t.Context(), serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
			if serr == nil {
				serr = stream.Recv(new(serverpb.IterateResponse))
			}
			for _, err := range []error{err, serr} {
				text := strings.ReplaceAll(err.Error(), s.addr, "ADDR")
				if kv.KindOf(err) != c.kind || kv.OutcomeOf(err) != c.outcome || Answered(err) != c.answered || text != c.text {
					t.Errorf("%q: kind %d, %v, answered: %v", text, kv.KindOf(err), kv.OutcomeOf(err), Answered(err))
				}
				for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
					if errors.Is(err, end) != (c.is == end) {
						t.Errorf("%q is %v: %v", text, end, errors.Is(err, end))
					}
				}
			}
		})
	}
}

// TestOutcomeOfConnections distinguishes requests that were sent from those that were not.
func TestOutcomeOfConnections(t *testing.T) {
	reached := make(chan struct{}, 1)
	s := serve(t, &site{get: func(ctx context.Context, _ *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		reached <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	pool := newPool(t, Options{})
	p := peerAt(t, pool, s.addr)

	// The caller leaves.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	_, err := get(ctx, p)
	if kv.OutcomeOf(err) != kv.Unknown || !errors.Is(err, context.Canceled) {
		t.Errorf("left: %v", err)
	}
	_, err = get(ctx, p) // had left before
	if kv.OutcomeOf(err) != kv.NotApplied || !errors.Is(err, context.Canceled) {
		t.Errorf("was never there: %v", err)
	}
	testkit.Timely(t, func() error { // the request has to arrive before the deadline
		_, err := get(testkit.Within(t, 50*time.Millisecond), p)
		select {
		case <-reached:
		default:
			return fmt.Errorf("did not arrive: %w", err)
		}
		if kv.OutcomeOf(err) != kv.Unknown || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("did not wait: %v", err)
		}
		return nil
	})

	// The connection breaks, then it cannot be made.
	go func() { <-reached; s.grpc.Stop() }()
	_, err = get(t.Context(), p)
	if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.Unknown || Answered(err) {
		t.Errorf("broke: %v, %v", err, kv.OutcomeOf(err))
	}
	for range 3 {
		if err := p.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = get(t.Context(), p)
		if kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied || !strings.Contains(err.Error(), "refused") {
			t.Errorf("refused: %v, %v", err, kv.OutcomeOf(err))
		}
	}
}

// TestReachEnds holds that the wait for a connection ends with its context, and that
// the request which would have followed was not sent.
func TestReachEnds(t *testing.T) {
	pool := newPool(t, Options{Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != "far:1" {
			t.Errorf("dials %s", addr)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if err := peerAt(t, pool, "far:1").Reach(ctx); !errors.Is(err, cause) {
		t.Error(err)
	}
	_, reachErr := pool.Reach(ctx, "far:1")
	callErr := pool.Call(ctx, "far:1", getMethod, &serverpb.GetRequest{}, &serverpb.GetResponse{})
	_, streamErr := pool.Stream(ctx, "far:1", serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
	for _, err := range []error{reachErr, callErr, streamErr} {
		if !errors.Is(err, cause) || kv.KindOf(err) != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied ||
			err.Error() != "node far:1 cannot be reached: cause" {
			t.Errorf("%v: kind %d, %v", err, kv.KindOf(err), kv.OutcomeOf(err))
		}
	}
}

// TestPoolCalls makes a call and a stream by address alone.
func TestPoolCalls(t *testing.T) {
	s := serve(t, &site{get: answers, iterate: func(stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		return stream.Send(&serverpb.IterateResponse{Index: 7})
	}})
	pool := newPool(t, Options{})
	resp := new(serverpb.GetResponse)
	if err := pool.Call(t.Context(), s.addr, getMethod, &serverpb.GetRequest{}, resp); err != nil || string(resp.GetValue()) != "v" {
		t.Errorf("%v, %v", resp, err)
	}
	stream, err := pool.Stream(t.Context(), s.addr, serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var m serverpb.IterateResponse
	if err := stream.Recv(&m); err != nil || m.GetIndex() != 7 {
		t.Errorf("%v, %v", &m, err)
	}
	if err := stream.Recv(&m); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if got := s.conns.Load(); got != 1 {
		t.Errorf("%d connections", got)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Call(t.Context(), s.addr, getMethod, &serverpb.GetRequest{}, resp); !errors.Is(err, ErrClosed) || kv.OutcomeOf(err) != kv.NotApplied {
		t.Errorf("after Close: %v", err)
	}
}

func TestStream(t *testing.T) {
	ended := make(chan error, 1)
	s := serve(t, &site{iterate: func(stream grpc.ServerStreamingServer[serverpb.IterateResponse]) error {
		for i := range 3 {
			if err := stream.Send(&serverpb.IterateResponse{Index: uint64(i + 1)}); err != nil {
				return err
			}
		}
		if len(metadata.ValueFromIncomingContext(stream.Context(), "stay")) > 0 {
			<-stream.Context().Done()
			ended <- stream.Context().Err()
		}
		return nil
	}})
	p := peerAt(t, newPool(t, Options{}), s.addr)
	for _, stay := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if stay {
			ctx = metadata.AppendToOutgoingContext(ctx, "stay", "1")
		}
		stream, err := p.Stream(ctx, serverpb.DKV_Iterate_FullMethodName, &serverpb.IterateRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var m serverpb.IterateResponse
		for i := range 3 {
			if err := stream.Recv(&m); err != nil || m.GetIndex() != uint64(i+1) {
				t.Errorf("%v, %v", &m, err)
			}
		}
		if !stay {
			if err := stream.Recv(&m); !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %v", err)
			}
		}
		cancel()
		if stay {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("at the peer: %v", err)
			}
		}
		testkit.Eventually(t, "the call is no longer counted", func() bool { return (*p.conns.Load())[0].calls.Load() == 0 })
	}
}

// TestMessageSize lets a response be as large as a server may send, and no larger.
func TestMessageSize(t *testing.T) {
	const limit = 1 << 20
	size := limit + overhead/2
	s := serve(t, &site{get: func(context.Context, *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		return &serverpb.GetResponse{Value: make([]byte, size)}, nil
	}})
	p := peerAt(t, newPool(t, Options{MaxMessageSize: limit}), s.addr)
	if resp, err := get(t.Context(), p); err != nil || len(resp.GetValue()) != size {
		t.Errorf("%d bytes, %v", len(resp.GetValue()), err)
	}
	size = limit + overhead
	if _, err := get(t.Context(), p); kv.KindOf(err) != kv.Exhausted {
		t.Error(err)
	}
}

// changes is a change stream of one change.
type changes struct {
	serverpb.UnimplementedDKVReplicationServer
	change *serverpb.GetChangesResponse
}

func (c changes) GetChanges(context.Context, *serverpb.GetChangesRequest) (*serverpb.GetChangesResponse, error) {
	return c.change, nil
}

func (c changes) StreamChanges(_ *serverpb.StreamChangesRequest, s grpc.ServerStreamingServer[serverpb.GetChangesResponse]) error {
	return s.Send(c.change)
}

// TestLargeChanges takes a change however large it is: what follows could not come
// without it.
func TestLargeChanges(t *testing.T) {
	const limit = 1 << 10
	sent := &serverpb.GetChangesResponse{Changes: []*serverpb.ChangeRecord{{SerialisedForm: make([]byte, 2*overhead)}}}
	server := grpc.NewServer()
	serverpb.RegisterDKVReplicationServer(server, changes{change: sent})
	addr := servertest.Serve(t, server, nil).Addr
	p := peerAt(t, newPool(t, Options{MaxMessageSize: limit}), addr)
	var got serverpb.GetChangesResponse
	if err := p.Invoke(t.Context(), serverpb.DKVReplication_GetChanges_FullMethodName, &serverpb.GetChangesRequest{}, &got); err != nil || !proto.Equal(&got, sent) {
		t.Errorf("by a call: %v", err)
	}
	stream, err := p.Stream(t.Context(), serverpb.DKVReplication_StreamChanges_FullMethodName, &serverpb.StreamChangesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Recv(&got); err != nil || !proto.Equal(&got, sent) {
		t.Errorf("by a stream: %v", err)
	}
	if err := stream.Recv(&got); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.8.0.1": true, "::1": true, "localhost": true, "LocalHost": true,
		"": false, "0.0.0.0": false, "::": false, "192.0.2.1": false, "localhost.example.org": false, "127.0.0.1.example.org": false,
	} {
		if Loopback(host) != want {
			t.Errorf("%q: %v, want %v", host, !want, want)
		}
	}
}
