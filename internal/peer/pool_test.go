package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// TestGrowsAgain: a connection that has ended is opened again when the others are busy.
func TestGrowsAgain(t *testing.T) {
	release := make(chan struct{})
	var under atomic.Int64
	s := serve(t, &site{get: func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		under.Add(1)
		defer under.Add(-1)
		<-release
		return answers(ctx, r)
	}})
	p := peerAt(t, newPool(t, Options{MaxConnections: 2}), s.addr)
	for _, when := range []string{"at first", "after a restart"} {
		if err := p.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range callsPerConnection + 1 {
			wg.Go(func() {
				if _, err := get(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
			testkit.Eventually(t, "the call arrives", func() bool { return under.Load() == int64(i+1) })
		}
		both := testkit.Soon(func() bool { return s.conns.Load() == 2 })
		for range callsPerConnection + 1 {
			release <- struct{}{}
		}
		wg.Wait()
		if !both {
			t.Fatalf("%s: %d connections for %d calls", when, s.conns.Load(), callsPerConnection+1)
		}
		s.restart(t, func() bool { return s.conns.Load() == 0 && !p.Ready() })
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
	testkit.Timely(t, func() error {
		s.restart(t, func() bool { return !p.Ready() })
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

// Release leaves calls that are under way alone, wherever they go.
func TestRelease(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	used := serve(t, &site{get: func(ctx context.Context, r *serverpb.GetRequest) (*serverpb.GetResponse, error) {
		arrived <- struct{}{}
		<-release
		return answers(ctx, r)
	}})
	idle, needed := serve(t, &site{get: answers}), serve(t, &site{get: answers})
	pool := newPool(t, Options{})
	for _, s := range []*site{idle, needed} {
		if _, err := get(t.Context(), peerAt(t, pool, s.addr)); err != nil {
			t.Fatal(err)
		}
	}
	answered := make(chan error, 1)
	p := peerAt(t, pool, used.addr)
	go func() {
		_, err := get(context.Background(), p)
		answered <- err
	}()
	<-arrived
	was := peerAt(t, pool, needed.addr)
	pool.Release(needed.addr)
	testkit.Eventually(t, "the idle connection is closed", func() bool { return idle.conns.Load() == 0 })
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if peerAt(t, pool, needed.addr) != was || needed.conns.Load() != 1 {
		t.Error("what is needed went too")
	}
	pool.Release(needed.addr)
	testkit.Eventually(t, "the other one is closed after its call", func() bool { return used.conns.Load() == 0 })
}

// A link-local address has a zone.
func TestAddressWithAZone(t *testing.T) {
	dialed := make(chan string, 1)
	pool := newPool(t, Options{Dial: func(_ context.Context, addr string) (net.Conn, error) {
		select {
		case dialed <- addr:
		default:
		}
		return nil, errors.New("no network")
	}})
	const addr = "[fe80::1%eth0]:80"
	if err := peerAt(t, pool, addr).Reach(testkit.Within(t, testkit.Patience)); err != nil {
		t.Fatal(err)
	}
	if got := <-dialed; got != addr {
		t.Errorf("connects to %s", got)
	}
}
