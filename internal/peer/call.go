package peer

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"

	"github.com/dkvdb/dkv/internal/kv"
)

// Call makes a unary call of the node at an address, host:port: it waits for a
// connection, as Reach does, and sends the request once. ctx bounds both. Errors
// are those of Reach and of Peer.Invoke.
func (p *Pool) Call(ctx context.Context, addr, method string, req, resp any) error {
	reached, err := p.Reach(ctx, addr)
	if err != nil {
		return err
	}
	return reached.Invoke(ctx, method, req, resp)
}

// Stream opens a stream of responses to one request to the node at an address, as
// Call makes a call of it. The caller cancels ctx when it is done with the stream.
// Errors are those of Reach and of Peer.Stream.
func (p *Pool) Stream(ctx context.Context, addr, method string, req any) (*Stream, error) {
	reached, err := p.Reach(ctx, addr)
	if err != nil {
		return nil, err
	}
	return reached.Stream(ctx, method, req)
}

// Reach returns the connections to an address, host:port, after Peer.Reach: for
// callers that wait for a connection for less long than for the answer, or that must
// know when the request was sent.
func (p *Pool) Reach(ctx context.Context, addr string) (*Peer, error) {
	found, err := p.Peer(addr)
	if err != nil {
		return nil, kv.Errorf(kv.Unavailable, "node %s: %w", addr, err)
	}
	if err := found.Reach(ctx); err != nil {
		return nil, err
	}
	return found, nil
}

// Reach waits until a connection stands or has failed, so that the call which
// follows is sent at once or fails at once. If ctx ends first, its error is of kind
// Unavailable and outcome NotApplied, and wraps ctx's. It costs next to nothing if a
// connection stands.
func (p *Peer) Reach(ctx context.Context) error {
	c := p.pick()
	for {
		switch state := c.GetState(); state {
		case connectivity.Ready, connectivity.TransientFailure, connectivity.Shutdown:
			return nil
		case connectivity.Idle:
			c.Connect()
			fallthrough
		default:
			if !c.WaitForStateChange(ctx, state) {
				return kv.Errorf(kv.Unavailable, "node %s cannot be reached: %w", p.addr, context.Cause(ctx))
			}
		}
	}
}

// Ready reports whether a connection stands.
func (p *Peer) Ready() bool { return p.pick().GetState() == connectivity.Ready }

// replication is the service of the change stream. A change is one message, however
// large it is, and it may have been committed under larger limits than those of
// today: if it were rejected here, none that follow could be received. The sender
// bounds these messages.
const replication = "/dkv.serverpb.DKVReplication/"

// receiving returns the call options that bound what a method's responses may hold.
func receiving(method string) []grpc.CallOption {
	if strings.HasPrefix(method, replication) {
		return []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32)}
	}
	return nil
}

// Invoke makes a unary call. Its error is a kv.Error whose outcome says whether
// the request may have taken effect: NotApplied if the connection could not be used,
// Unknown if it broke.
func (p *Peer) Invoke(ctx context.Context, method string, req, resp any) error {
	c := p.pick()
	c.calls.Add(1)
	defer c.calls.Add(-1)
	var at peer.Peer
	if err := c.ClientConn.Invoke(ctx, method, req, resp, append(receiving(method), grpc.Peer(&at))...); err != nil {
		return p.toError(ctx, err, at.Addr != nil)
	}
	return nil
}

// Stream is the responses to one request.
type Stream struct {
	stream grpc.ClientStream
	ctx    context.Context
	peer   *Peer
}

// Stream opens a stream of responses to one request. The caller cancels ctx when
// it is done with it. Errors are as those of Invoke, also from Recv.
func (p *Peer) Stream(ctx context.Context, method string, req any) (*Stream, error) {
	c := p.pick()
	c.calls.Add(1)
	done := sync.OnceFunc(func() { c.calls.Add(-1) })
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method,
		append(receiving(method), grpc.OnFinish(func(error) { done() }))...) // called even if NewStream fails
	if err != nil {
		return nil, p.toError(ctx, err, false)
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv returns the reason
		return nil, p.toError(ctx, err, true)
	}
	if err := s.CloseSend(); err != nil {
		return nil, p.toError(ctx, err, true)
	}
	return &Stream{stream: s, ctx: ctx, peer: p}, nil
}

// Recv reads the next response into m. At the end it returns io.EOF.
func (s *Stream) Recv(m any) error {
	err := s.stream.RecvMsg(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return s.peer.toError(s.ctx, err, true)
}

// Conn returns the connections for clients that are generated from service
// definitions. It takes calls with their options as grpc.ClientConn does, and its
// errors are gRPC's own.
func (p *Peer) Conn() grpc.ClientConnInterface { return raw{p} }

type raw struct{ *Peer }

func (r raw) Invoke(ctx context.Context, method string, req, resp any, opts ...grpc.CallOption) error {
	c := r.pick()
	c.calls.Add(1)
	defer c.calls.Add(-1)
	return c.ClientConn.Invoke(ctx, method, req, resp, opts...)
}

func (r raw) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c := r.pick()
	c.calls.Add(1)
	done := sync.OnceFunc(func() { c.calls.Add(-1) })
	return c.NewStream(ctx, desc, method, append(opts, grpc.OnFinish(func(error) { done() }))...)
}
