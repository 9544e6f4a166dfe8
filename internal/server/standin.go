package server

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/conns"
	"github.com/dkvdb/dkv/internal/kv"
)

// StandInOptions are the options of a StandIn; those that Options have, too, mean the same.
type StandInOptions struct {
	Listener                              net.Listener
	TLS                                   *certs.Acceptor
	MaxConnections, MaxConnectionsPerHost int
	// Why says why nothing is served, in a sentence.
	Why func() string
}

// StandIn answers instead of a node's server while the node waits for others and cannot
// serve yet. Each call fails at once with the reason, and health checks report that it
// does not serve.
type StandIn struct {
	grpc   *grpc.Server
	lent   *lent
	conns  *conns.Listener
	served chan error
}

// standInStreams bounds the calls on a connection; none takes long.
const standInStreams = 64

// BeginStandIn begins to answer at a listener, which stays open.
func BeginStandIn(o StandInOptions) (*StandIn, error) {
	l, ok := o.Listener.(deadlineListener)
	if !ok {
		return nil, fmt.Errorf("a listener of type %T cannot be lent", o.Listener)
	}
	s := &StandIn{lent: &lent{deadlineListener: l}, served: make(chan error, 1)}
	s.grpc = grpc.NewServer(
		grpc.MaxConcurrentStreams(standInStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return notYet(o.Why()) }),
	)
	checks := health.NewServer()
	checks.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s.grpc, checks)
	s.conns = conns.Limit(s.lent, conns.Options{
		Max: o.MaxConnections, MaxPerHost: o.MaxConnectionsPerHost, Key: "max-connections", HostKey: "max-connections-per-host", Refusal: refusal(o.TLS), Handshake: o.TLS != nil,
	})
	go func() { s.served <- s.grpc.Serve(o.TLS.Listen(s.conns)) }()
	return s, nil
}

// notYet is the error of every call: it had no effect, and another node may serve it.
func notYet(why string) error {
	st, err := status.New(codes.Unavailable, short(why)+" (not applied)").WithDetails(
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonNotApplied},
		&errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonWaiting})
	if err != nil {
		return status.Error(codes.Unavailable, why)
	}
	return st.Err()
}

// End closes the connections and returns the listener to its owner.
func (s *StandIn) End() error {
	// gRPC waits for connections that have not begun to speak; none is counted as used here.
	silent := time.AfterFunc(greeting, s.conns.DropUnused)
	defer silent.Stop()
	s.grpc.Stop()
	if err := <-s.served; err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("answering in the place of the gRPC server: %w", err)
	}
	return s.lent.SetDeadline(time.Time{})
}

// deadlineListener is a listener whose Accept can be ended without closing it.
type deadlineListener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// lent is a listener that its borrower cannot close: Close only stops Accept.
type lent struct {
	deadlineListener
	returned atomic.Bool
}

// Accept implements net.Listener.
func (l *lent) Accept() (net.Conn, error) {
	c, err := l.deadlineListener.Accept()
	if err != nil && l.returned.Load() {
		return nil, net.ErrClosed
	}
	return c, err
}

// Close implements net.Listener.
func (l *lent) Close() error {
	l.returned.Store(true)
	return l.SetDeadline(time.Unix(1, 0))
}
