// Package servertest runs gRPC servers for tests: the one that nodes serve with, or
// a bare one.
package servertest

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Server is a server that runs until the test ends.
type Server struct {
	Addr string
	// Stop ends it before that. Requests under way are given Options.Drain.
	Stop func()
}

// Options are what tests set; the rest is generous.
type Options struct {
	// Listener is a new one on loopback if nil.
	Listener net.Listener
	Register func(grpc.ServiceRegistrar)
	// Drain is how long requests under way may go on at the end; 0 cuts them off.
	Drain time.Duration
	// Stall is after how long a stream is ended whose reader takes nothing; 0 is a
	// minute.
	Stall time.Duration
	// InFlight bounds unary requests, Streams the streams of each kind; 0 is 10000 and 1000.
	InFlight, Streams int
}

// Start serves as a node does: with its limits, error codes and health service.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Listener == nil {
		o.Listener = testkit.Listen(t)
	}
	srv := server.New(server.Options{
		Listener:       o.Listener,
		Register:       o.Register,
		MaxMessageSize: 16 << 20,
		MaxInFlight:    cmp.Or(o.InFlight, 10_000),
		MaxStreams:     cmp.Or(o.Streams, 1000),
		StallTimeout:   o.Stall,
		DrainTimeout:   max(o.Drain, time.Millisecond),
		Log:            slog.New(slog.DiscardHandler),
	})
	return &Server{Addr: o.Listener.Addr().String(), Stop: testkit.Run(t, srv.Run)}
}

// Serve runs a bare gRPC server, on a new listener on loopback if l is nil. It ends
// without waiting for requests under way.
func Serve(t testing.TB, s *grpc.Server, l net.Listener) *Server {
	t.Helper()
	if l == nil {
		l = testkit.Listen(t)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	stop := sync.OnceFunc(func() {
		s.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // before it began
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &Server{Addr: l.Addr().String(), Stop: stop}
}

// Connect returns a connection to an address, which the test closes at its end.
func Connect(t testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
