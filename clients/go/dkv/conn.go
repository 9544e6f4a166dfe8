package dkv

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/dkvdb/dkv/internal/peer"
)

// Conn returns a connection to the node at an address, host:port, for the clients that
// are generated from the service definitions and for package admin. With an empty
// address, each call goes to a leader if one is known, and to another node if that one
// cannot be reached or answers that nothing was done.
//
// It uses the connections of the client and ends with it. Errors are of type *Error.
// Call options are ignored, and only server streams are supported.
func (c *Client) Conn(addr string) grpc.ClientConnInterface { return conn{c, addr} }

type conn struct {
	client *Client
	addr   string
}

// Invoke implements grpc.ClientConnInterface. Since it does not know what the method
// does, it repeats a request only if the error says that it had no effect.
func (c conn) Invoke(ctx context.Context, method string, req, resp any, _ ...grpc.CallOption) error {
	if c.addr == "" {
		return c.client.call(ctx, &request{method: method, mutates: true}, own(req), resp)
	}
	if c.client.closed.Load() {
		return errClosed()
	}
	n, err := c.client.node(c.addr)
	if err != nil {
		return err
	}
	ctx, cancel := c.client.bounded(ctx)
	defer cancel()
	n.aside.Add(1)
	defer n.aside.Add(-1)
	if err := n.invoke(ctx, method, req, resp); err != nil {
		return toError(err, n.addr, true)
	}
	return nil
}

// own returns a request that may be marked: a copy, without those of its parts. The caller's is
// not changed, since other calls may be using it.
func own(req any) any {
	message, is := req.(proto.Message)
	if !is {
		return req
	}
	from := message.ProtoReflect()
	out := from.New()
	from.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.Set(f, v)
		return true
	})
	out.SetUnknown(from.GetUnknown())
	return out.Interface()
}

// NewStream implements grpc.ClientConnInterface.
func (c conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	if desc.ClientStreams {
		return nil, errorf(ErrUnimplemented, "%s streams requests", method)
	}
	if c.client.closed.Load() {
		return nil, errClosed()
	}
	if c.addr != "" {
		n, err := c.client.node(c.addr)
		return &responses{ctx: ctx, node: n, method: method}, err
	}
	limited, cancel := c.client.bounded(ctx) // a stream lasts, the wait for a node does not
	t, err := c.client.awaitTopology(limited)
	cancel()
	if err != nil {
		return nil, err
	}
	return &responses{ctx: ctx, node: t.forWrite(0, nil), method: method}, nil
}

// responses is a stream of responses to one request.
type responses struct {
	ctx    context.Context
	node   *node
	method string
	stream *peer.Stream // from SendMsg on
}

// SendMsg sends the request.
func (r *responses) SendMsg(m any) (err error) {
	if r.stream, err = r.node.stream(r.ctx, r.method, m); err != nil {
		return toError(err, r.node.name(), false)
	}
	return nil
}

// RecvMsg reads the next response.
func (r *responses) RecvMsg(m any) error {
	if r.stream == nil {
		return status.Error(codes.Internal, "the request was not sent")
	}
	err := r.stream.Recv(m)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return toError(r.node.note(r.ctx, err), r.node.name(), false)
}

func (r *responses) CloseSend() error             { return nil }
func (r *responses) Context() context.Context     { return r.ctx }
func (r *responses) Header() (metadata.MD, error) { return nil, nil }
func (r *responses) Trailer() metadata.MD         { return nil }
