package server

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/tracing"
)

// streamed is a streaming method with the service that has it.
type streamed struct {
	srv     any
	handler grpc.StreamHandler
}

// Invoke makes a unary call for a caller of another server of this process, which has decided
// who that is: the identity of ctx, if callers are distinguished. The call passes through
// everything that one by gRPC does: limits, the caller's rights to the keys of the request,
// metrics and logs. The error is a gRPC status.
func (s *Server) Invoke(ctx context.Context, method string, request pb.Message) (any, error) {
	m, known := s.calls.unaries[method]
	if !known {
		return nil, statusOf(codes.Unimplemented, "this node has no method %.128q", method)
	}
	return m.handler(m.srv, s.calls.local(ctx), func(v any) error {
		pb.Merge(v.(*incoming).message, request)
		return nil
	}, nil)
}

// Stream is Invoke for a method that answers with a stream: each message goes to send.
func (s *Server) Stream(ctx context.Context, method string, request pb.Message, send func(any) error) error {
	m, known := s.calls.streamed[method]
	if !known {
		return statusOf(codes.Unimplemented, "this node has no stream %.128q", method)
	}
	return s.calls.stream(m.srv, &localStream{ctx: s.calls.local(ctx), request: request, send: send},
		&grpc.StreamServerInfo{FullMethod: method, IsServerStream: true}, m.handler)
}

// local is the call of a caller of another server. It has no connection here and no stream.
func (c *calls) local(ctx context.Context) *call {
	k := &call{Context: ctx, calls: c, begun: time.Now(), forwarded: true, local: true, identity: auth.FromContext(ctx)}
	if parent := tracing.ParentOf(ctx); parent != "" {
		k.header = metadata.MD{tracing.ParentKey: {parent}}
	}
	return k
}

// localStream is the stream of a local call: one request, and what send takes.
type localStream struct {
	ctx     context.Context
	request pb.Message // nil once it was received
	send    func(any) error
}

// Context implements grpc.ServerStream.
func (s *localStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s *localStream) RecvMsg(m any) error {
	if s.request == nil {
		return io.EOF
	}
	pb.Merge(m.(pb.Message), s.request)
	s.request = nil
	return nil
}

// SendMsg implements grpc.ServerStream.
func (s *localStream) SendMsg(m any) error { return s.send(m) }

// SetHeader implements grpc.ServerStream.
func (s *localStream) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerStream.
func (s *localStream) SendHeader(metadata.MD) error { return nil }

// SetTrailer implements grpc.ServerStream.
func (s *localStream) SetTrailer(metadata.MD) {}
