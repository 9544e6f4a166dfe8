package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
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
		if !k.conn.shares(k) {
			f.calls.limited(limitStreams)
			return exhausted(streamPause, "%d streams of forwarded calls are open on this connection, which is the limit; use them", maxShared)
		}
		defer k.conn.unshares()
	}
	f.calls.shared.streams.Add(1)
	defer f.calls.shared.streams.Add(-1)
	err := forward.Serve(taking{stream, k}, f.calls.opts.MaxMessageSize, f.calls.drained, &forwarded{calls: f.calls, stream: k})
	if errors.Is(err, forward.ErrMalformed) {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return err
}

// maxShared bounds the streams of forwarded calls of a connection. A node has one, and those that
// it has just replaced.
const maxShared = 16

// mostUntaken is how much of a client's stream may have arrived and not have been taken; of a shared
// one while memory is short and nothing else can be ended: a message of those that other nodes send
// is smaller by far.
const mostUntaken = 1 << 20

// expectMore records that further messages arrive on the stream of a call.
func (c *conn) expectMore(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.more = true
}

// shares records that the requests of other calls arrive on the stream of a call, which goes on for
// long. It reports whether the connection may have one more of these.
func (c *conn) shares(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sharing >= maxShared {
		return false
	}
	c.sharing++
	k.shared = true
	return true
}

func (c *conn) unshares() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sharing--
}

// taking is a stream whose messages count for its connection until they have been taken.
type taking struct {
	forward.Receiving
	call *call
}

// RecvMsg implements forward.Receiving.
func (s taking) RecvMsg(m any) error {
	err := s.Receiving.RecvMsg(m)
	if err == nil && s.call.conn != nil {
		s.call.conn.took(s.call, int64(m.(*forward.Message).Len()))
	}
	return err
}

// took releases what a message of a client's stream held while it arrived, with its part of what the
// frames took.
func (c *conn) took(k *call, n int64) {
	const prefix = 5 // gRPC's, before each message
	n += prefix
	c.mu.Lock()
	if !k.more {
		c.mu.Unlock()
		return
	}
	payload := k.bytes - int64(k.frames)*frameOverhead
	gone := k.bytes
	if n < payload {
		frames := int64(k.frames) * n / payload
		gone = n + frames*frameOverhead
		k.frames -= int(frames)
	} else {
		k.frames = 0
	}
	k.bytes -= gone
	k.first = time.Now()
	if c.closed {
		gone = 0
	}
	c.received -= gone
	c.mu.Unlock()
	c.calls.wire.held.Add(-gone)
}

// ask records whether the handler of a client's stream waits for a message. The time for the rest of
// one that has arrived in part begins then: nothing more of it comes before, however long that takes.
func (c *conn) ask(k *call, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.asks = waits; waits && k.bytes > 0 {
		k.first = time.Now()
		k.moved = k.first
	}
}

// arrives reports whether a part of a request is there, or of a message that a client's stream is read
// for. Messages that no one reads yet are a client's fault only if they are no requests of other calls.
// The caller holds the connection's mu.
func (k *call) arrives() bool {
	return k.receiving.Load() || k.more && !k.over && k.bytes > 0 && (k.asks || !k.shared)
}

// endArrival ends a call whose request, or the next message of whose stream, does not arrive.
func (k *call) endArrival(why error) bool {
	k.conn.mu.Lock()
	more := k.more
	k.conn.mu.Unlock()
	return k.endRequest(why) || more && k.endStream(why)
}

// sharing are the calls that share streams, and these streams.
type sharing struct{ calls, streams atomic.Int64 }

// leastShared is how many calls of a stream may be under way however many there are of others.
const leastShared = 64

// forwarded serves the calls of one stream.
type forwarded struct {
	calls  *calls
	stream *call
}

// Enter implements forward.Handler. Further calls than those that may be in flight or wait would be
// rejected. From half as many on each stream has its share, so that one whose answers are not taken
// keeps no room from others.
func (f *forwarded) Enter(busy int) bool {
	of, most := &f.calls.shared, int64(f.calls.opts.MaxInFlight)+f.calls.waiting.most
	if busy >= leastShared && of.calls.Load() >= most/2 && int64(busy) >= most/of.streams.Load() {
		return false
	}
	of.calls.Add(1)
	return true
}

// Leave implements forward.Handler.
func (f *forwarded) Leave() { f.calls.shared.calls.Add(-1) }

// Hold implements forward.Handler.
func (f *forwarded) Hold(n int) *spb.Status {
	c, w := f.stream.conn, f.calls.wire
	if c == nil {
		return nil
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.received += int64(n)
	full := c.received > w.perConn
	c.mu.Unlock()
	if over := w.held.Add(int64(n)) > w.limit; full || over && !f.calls.makeRoom() {
		f.Release(n)
		f.calls.limited(limitMemory)
		return status.Convert(toStatus(memoryFull(w.limit))).Proto()
	}
	return nil
}

// Release implements forward.Handler.
func (f *forwarded) Release(n int) {
	c := f.stream.conn
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed { // Close has released it
		c.received -= int64(n)
		c.calls.wire.held.Add(-int64(n))
	}
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

// Quick implements forward.Handler.
func (f *forwarded) Quick(method []byte) bool {
	m, known := f.calls.unaries[string(method)]
	return known && quick(m.name)
}

// Serve implements forward.Handler.
func (f *forwarded) Serve(ctx context.Context, client, method, request []byte) forward.Answer {
	m, known := f.calls.unaries[string(method)]
	if !known {
		return answerOf(statusOf(codes.Unimplemented, "this node has no method %.128q that can be forwarded", method))
	}
	k := &call{Context: ctx, calls: f.calls, conn: f.stream.conn, begun: time.Now(), forwarded: true, client: client}
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
