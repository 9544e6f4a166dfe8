package peer

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

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

// restart stops the server, waits until its peer has seen that, and serves at the address again.
func (s *site) restart(t *testing.T, stopped func() bool) {
	t.Helper()
	s.grpc.Stop()
	testkit.Eventually(t, "its end is seen", stopped)
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.grpc = grpc.NewServer()
	serverpb.RegisterDKVServer(s.grpc, s)
	servertest.Serve(t, s.grpc, counted{Listener: l, site: s})
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
