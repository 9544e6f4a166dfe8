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
)

// Await waits until a connection stands or has failed, so that the call which
// follows does not wait to be sent. It returns ctx's error where that ends first.
// Where a connection stands it costs next to nothing.
func (p *Peer) Await(ctx context.Context) error {
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
				return context.Cause(ctx)
			}
		}
	}
}

// Ready tells whether a connection stands.
func (p *Peer) Ready() bool { return p.pick().GetState() == connectivity.Ready }

// replication is the service of the change stream. A change is one message however
// large it is, and it may have got into a log under greater limits than there are
// now, there or here: turned away, it would stand in the way of all that follow. So
// there what a message may hold is for the sender to bound.
const replication = "/dkv.serverpb.DKVReplication/"

// receiving are the options of a call for what it may receive.
func receiving(method string) []grpc.CallOption {
	if strings.HasPrefix(method, replication) {
		return []grpc.CallOption{grpc.MaxCallRecvMsgSize(math.MaxInt32)}
	}
	return nil
}

// Invoke makes a unary call. Its error is a kv.Error whose outcome tells whether
// the request may have taken effect: a connection that could not be used is
// NotApplied, one that broke is Unknown.
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
		append(receiving(method), grpc.OnFinish(func(error) { done() }))...) // also where there is no stream
	if err != nil {
		return nil, p.toError(ctx, err, false)
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv tells why
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
