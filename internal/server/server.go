// Package server assembles the gRPC server of a node: limits, metrics, slow and
// audit logs, error mapping, health, reflection and drain. It knows no role:
// the services are handed to it.
//
// Health is that of the node as a whole: every service has the same, and it is
// SERVING as long as reads are served, since that is what a balancer decides
// by. Whether mutations are accepted is said by their errors.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/tracing"
)

// Options are what a Server is made of.
type Options struct {
	// Listener accepts the connections; see Listen.
	Listener net.Listener
	// TLS completes the handshakes of connections; nil if they are in the clear.
	TLS *certs.Acceptor
	// Register registers the services.
	Register func(grpc.ServiceRegistrar)
	// MaxMessageSize bounds a request, in bytes.
	MaxMessageSize int
	// MaxConnections bounds the open connections, and MaxConnectionsPerHost those of
	// one client host; 0 is no bound.
	MaxConnections, MaxConnectionsPerHost int
	// MaxInFlight bounds the unary requests in flight, from their first byte on, and
	// MaxStreams the streams of each kind: those by which other nodes follow this one,
	// those of clients, and those that watch the health. Unary health checks have a bound
	// of their own.
	MaxInFlight, MaxStreams int
	// MaxMemory bounds, in bytes, the messages in transit: requests from their first byte
	// until they are served, and responses until they are sent. Apart from these it
	// bounds what requests may read for which Memory is not 0. A single one is always
	// admitted. 0 is no bound.
	MaxMemory int64
	// Memory returns how many bytes a call of a method, by its full name, may hold beyond
	// what every call does. A call waits a little if they are not available.
	Memory func(method string, req any) int64
	// StallTimeout is after how long a stream is ended whose reader takes nothing; 0 is a
	// minute. ReceiveTimeout is how long a request may take to arrive, beyond what its size
	// explains; 0 is 10 seconds.
	StallTimeout, ReceiveTimeout time.Duration
	// SlowThreshold is the duration from which a request is logged; 0 logs
	// none.
	SlowThreshold time.Duration
	// Audited reports whether calls of a method, by its full name, are administrative and
	// have to be logged, whatever their outcome.
	Audited func(method string) bool
	// Access decides who may make which calls; nil allows all.
	Access *access.Guard
	// Reflection serves the descriptions of the services.
	Reflection bool
	// NotHere says why a service of this program is not served by this node and who
	// serves it; empty for what is no such service. Nil knows none.
	NotHere func(service string) string
	// DrainTimeout is how long requests under way may take at shutdown.
	DrainTimeout time.Duration
	// DrainFor returns how long they may take at most, by why the server stops; nil for
	// DrainTimeout whatever that is.
	DrainFor func(cause error) time.Duration
	Metrics  prometheus.Registerer
	Log      *slog.Logger
	// Audit receives the audited calls, and those of every method that are rejected because
	// of who makes them; nil means Log.
	Audit *audit.Log
	// Tracer makes the spans of requests that are sampled; nil if none is.
	Tracer *tracing.Tracer
	// AccessLog receives a line for each call; nil if there is no access log. Describe
	// completes it by what the request says.
	AccessLog *accesslog.Log
	Describe  func(req any, n *accesslog.Line)
}

// Server is a gRPC server with everything around it.
type Server struct {
	opts   Options
	grpc   *grpc.Server
	health *health.Server
	calls  *calls
	// drained is closed to end the streams that would not end by themselves.
	drained chan struct{}
	drain   sync.Once
	// shake ends the handshakes that are unfinished.
	shake    context.CancelFunc
	serving  atomic.Bool
	draining atomic.Bool
}

// keepaliveInterval is how long a connection may be silent before it is probed, so that a
// client which lost its network does not hold a snapshot for ever.
const (
	keepaliveInterval = 30 * time.Second
	keepaliveTimeout  = 10 * time.Second
	// minClientPing is the shortest ping interval that clients may use.
	minClientPing = 5 * time.Second
)

const (
	// streamWorkers is how many goroutines stay ready for requests, with stacks that have
	// grown to what a request needs: growing a new one takes a tenth of a request's
	// time. Requests beyond that get goroutines of their own. Each worker keeps some tens
	// of KiB of stack at most, which the collector takes back from workers that rest.
	streamWorkers = 256
	// writeBuffer is four times gRPC's own, so that a busy connection takes fewer
	// system calls.
	writeBuffer = 128 << 10
	// streamWindow and connectionWindow are how much a client may send of a request, and of
	// all requests, before it is taken. They do not change: to find out what suits a network
	// gRPC would ping the client for each message that arrives while no ping is under way, in
	// a write of its own, and the client answer. What a request has beyond its window is
	// granted at once when the request is read, so that a far client waits a round trip more.
	streamWindow     = 256 << 10
	connectionWindow = 4 << 20
)

const (
	// streamsPerConnection bounds the open calls of a connection; a client waits for one to
	// end before it begins another. It is far above what a node forwards to another one
	// over a connection.
	streamsPerConnection = 1024
	// maxHeaders bounds the headers of a call. The largest are those that name each
	// of 1024 vBuckets.
	maxHeaders = 80 << 10
	// handshakeTimeout is how long a connection may take to begin to speak HTTP/2.
	handshakeTimeout = 10 * time.Second
	// greeting is how long it may still take when the server drains. What has arrived is read
	// by then, so that only clients that say nothing are cut off.
	greeting = 100 * time.Millisecond
	// maxIdle and maxAge are after how long clients are asked to open another connection;
	// the calls that are open on this one are finished.
	maxIdle = 15 * time.Minute
	maxAge  = 6 * time.Hour
)

// Listen opens the address for gRPC. The error says what to do.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen-addr %s is taken by another process; stop it or choose another port", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listen-addr %s is no address of this machine; use one that is, or 0.0.0.0 for all", addr)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen-addr %s needs privileges that this user does not have; choose a port above 1023", addr)
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) && !strings.Contains(lookup.Name, "/") { // tcp/x is a port
		return nil, fmt.Errorf("listen-addr %s: the host %q cannot be resolved (%s); write an address of this machine, or 0.0.0.0 for all", addr, lookup.Name, lookup.Err)
	}
	return nil, fmt.Errorf("listen-addr %s: %w; write an address of this machine with a free port", addr, err)
}

// New assembles the server; nothing is served until Run.
func New(opts Options) *Server {
	if opts.Audit == nil {
		opts.Audit = audit.ToCommon(opts.Log)
	}
	if opts.StallTimeout == 0 {
		opts.StallTimeout = time.Minute
	}
	if opts.ReceiveTimeout == 0 {
		opts.ReceiveTimeout = receiveTime
	}
	s := &Server{opts: opts, health: health.NewServer(), drained: make(chan struct{})}
	s.calls = newCalls(opts, s.drained)
	var until context.Context
	until, s.shake = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(append(s.calls.grpcOptions(), secured(opts.TLS, until)...)...)
	watched := registrar{s.grpc, s.calls}
	opts.Register(watched)
	peerpb.RegisterForwardingServer(watched, forwarding{calls: s.calls})
	healthpb.RegisterHealthServer(watched, s.health)
	if opts.Reflection {
		reflection.Register(watched)
	}
	s.calls.know(s.grpc.GetServiceInfo())
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_NOT_SERVING)
	}
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	return s
}

// grpcOptions are those of gRPC's server.
func (c *calls) grpcOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(c.opts.MaxMessageSize),
		// What is sent is for the services to bound, and for the receiver: a record
		// of the change stream has to get through whatever it has come to.
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:              keepaliveInterval,
			Timeout:           keepaliveTimeout,
			MaxConnectionIdle: maxIdle,
			MaxConnectionAge:  maxAge,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minClientPing,
			PermitWithoutStream: true,
		}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ReadBufferSize(0), // see conn.Read
		grpc.WriteBufferSize(writeBuffer),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		experimental.BufferPool(buffers),
		grpc.InTapHandle(c.tap),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StreamInterceptor(c.stream),
		grpc.UnknownServiceHandler(c.noSuchMethod),
	}
}

// Methods returns the full names of all registered methods.
func (s *Server) Methods() []string { return slices.Collect(maps.Keys(s.calls.methods)) }

// SetServing sets what health checks report. Setting the same again costs nothing. A
// server that drains reports that it does not serve, whatever is set.
func (s *Server) SetServing(serving bool) {
	if s.serving.Swap(serving) == serving {
		return
	}
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, status)
	}
}

// Serving returns what health checks report.
func (s *Server) Serving() bool { return s.serving.Load() && !s.draining.Load() }

// Run serves until ctx ends, then drains: health reports NOT_SERVING, new requests are
// rejected, and those in flight are finished within DrainTimeout, or what DrainFor says.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close() // also if serving fails: workers wait for requests
	served := make(chan error, 1)
	l := s.calls.listen(s.opts.Listener)
	go func() { served <- s.grpc.Serve(l) }()
	watching, stop := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { s.calls.watch(watching) })
	looks.Go(func() { s.calls.checkStreams(watching) })
	looks.Go(func() { s.opts.TLS.Watch(watching, l) })
	defer looks.Wait()
	defer stop()
	select {
	case err := <-served:
		if err == nil {
			return nil // closed
		}
		return fmt.Errorf("gRPC server: %w", err)
	case <-ctx.Done():
	}
	drain := s.opts.DrainTimeout
	if s.opts.DrainFor != nil {
		drain = min(drain, s.opts.DrainFor(context.Cause(ctx)))
	}
	s.close(drain)
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("gRPC server: %w", err)
	}
	return nil // ErrServerStopped: ctx had ended before it could begin
}

// Close drains and stops the server. It is idempotent.
func (s *Server) Close() { s.close(s.opts.DrainTimeout) }

func (s *Server) close(drain time.Duration) {
	s.drain.Do(func() {
		s.draining.Store(true)
		s.health.Shutdown()
		close(s.drained)
		s.shake()
		// gRPC asks no client to go elsewhere before each connection has begun or ended: one that
		// says nothing, as of a probe, would hold up the end, and with it a promotion.
		silent := time.AfterFunc(greeting, s.calls.hangUp)
		defer silent.Stop()
		force := time.AfterFunc(drain, s.grpc.Stop)
		defer force.Stop()
		s.grpc.GracefulStop()
	})
}
