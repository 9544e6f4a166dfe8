package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/forward"
)

// forwarding serves the calls that another node forwards over one stream. Each of them passes
// through everything that a call of its own would: who calls, limits, metrics and logs.
type forwarding struct {
	peerpb.UnimplementedForwardingServer
	calls *calls
}

// served is a unary method with the service that has it.
type served struct {
	*method
	srv     any
	handler handler
}

// Forward implements Forwarding.
func (f forwarding) Forward(stream grpc.BidiStreamingServer[peerpb.ForwardedCalls, peerpb.ForwardedAnswers]) error {
	k := callOf(stream.Context())
	if k == nil {
		return statusOf(codes.Internal, "forwarded calls need the connection that they came by")
	}
	if k.conn != nil {
		k.conn.shares(k)
	}
	return forward.Serve(stream, f.calls.opts.MaxMessageSize, f.calls.drained, &forwarded{calls: f.calls, stream: k})
}

// shares records that the requests of other calls arrive on the stream of a call. They are
// counted with these calls, not with the stream.
func (c *conn) shares(k *call) {
	c.mu.Lock()
	k.shared = true
	c.mu.Unlock()
}

// forwarded serves the calls of one stream.
type forwarded struct {
	calls  *calls
	stream *call
}

// origin is the context of the calls of one caller about the same vBuckets, and their metadata.
type origin struct {
	context.Context
	header metadata.MD
}

type originKey struct{}

// Value implements context.Context.
func (o *origin) Value(key any) any {
	if _, own := key.(originKey); own {
		return o
	}
	return o.Context.Value(key)
}

// Origin implements forward.Handler. The metadata is what a call of its own would have: what
// the node shows of itself came with the stream.
func (f *forwarded) Origin(ctx context.Context, o forward.Origin) context.Context {
	header := metadata.MD{forwardedKey: {"1"}}
	if shown, sent := f.stream.header[authorizationKey]; sent {
		header[authorizationKey] = shown
	}
	for i := 0; i+1 < len(o.Caller); i += 2 {
		if key := o.Caller[i]; key == identityKey || key == grantsKey {
			header[key] = append(header[key], o.Caller[i+1])
		}
	}
	if len(o.VBuckets) > 0 {
		header[vBucketKey] = o.VBuckets
	}
	return &origin{Context: metadata.NewIncomingContext(ctx, header), header: header}
}

// Serve implements forward.Handler.
func (f *forwarded) Serve(ctx context.Context, method, request []byte) forward.Answer {
	m, known := f.calls.unaries[string(method)]
	if !known {
		return answerOf(statusOf(codes.Unimplemented, "this node has no method %.128q that can be forwarded", method))
	}
	k := &call{Context: ctx, calls: f.calls, conn: f.stream.conn, begun: time.Now(), forwarded: true}
	k.header = ctx.Value(originKey{}).(*origin).header
	resp, err := m.handler(m.srv, k, func(v any) error {
		return v.(*incoming).decode(mem.BufferSlice{mem.SliceBuffer(request)})
	}, nil)
	if err != nil {
		return answerOf(err)
	}
	return k.answer(m.method, resp)
}

// answer returns the answer with a response, which is encoded already if it is large.
func (k *call) answer(m *method, resp any) forward.Answer {
	out, large := resp.(*outgoing)
	if !large {
		return forward.Answer{Response: resp.(pb.Message)}
	}
	data := out.data
	out.data = nil
	if m.repeatable && data.Len() > forward.MaxResponse {
		data.Free()
		return forward.Answer{TooLarge: true}
	}
	return forward.Answer{Encoded: data}
}

func answerOf(err error) forward.Answer {
	return forward.Answer{Status: status.Convert(err).Proto()}
}
