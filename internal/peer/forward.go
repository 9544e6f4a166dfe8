package peer

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/forward"
	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// openTimeout bounds the wait for the answer to a stream of forwarded calls.
	openTimeout = 5 * time.Second
	// openAgain is after how long a stream is opened again that failed, and unknownAgain if
	// the peer has no such service: it may be upgraded.
	openAgain    = time.Second
	unknownAgain = time.Minute
	// largeFor is for how long reads are sent alone after a response was too large.
	largeFor = 100 * time.Millisecond
)

// shared is the stream by which forwarded calls go to a peer.
type shared struct {
	line    atomic.Pointer[forward.Line]
	opening atomic.Bool
	// due is when a stream may be opened, and largeUntil until when reads are sent alone, in
	// Unix nanoseconds.
	due, largeUntil atomic.Int64
}

// Forward makes a unary call on behalf of a caller over the stream that such calls share. It
// reports false if the call has to be made with Invoke: there is no stream yet, the peer knows
// none, or the request or the response is too large for it. Nothing has come of the call then.
// Errors are those of Invoke.
func (p *Peer) Forward(ctx context.Context, c *forward.Call, resp proto.Message) (taken bool, err error) {
	if !p.pool.shares || c.Moved != nil && p.shared.largeUntil.Load() > time.Now().UnixNano() {
		return false, nil
	}
	line := p.shared.line.Load()
	if line == nil {
		p.openLine()
		return false, nil
	}
	reply, err := line.Call(ctx, c)
	switch {
	case errors.Is(err, forward.ErrNotTaken):
		return false, nil
	case errors.Is(err, forward.ErrMoved), errors.Is(err, forward.ErrBroken):
		return true, kv.UnknownOutcome(kv.Unavailable, &failure{"node " + p.addr + " cannot be reached: " + err.Error(), status.New(codes.Unavailable, err.Error())})
	case err != nil:
		return true, p.toError(ctx, err, !errors.Is(err, forward.ErrUnsent))
	case reply.TooLarge:
		p.shared.largeUntil.Store(time.Now().Add(largeFor).UnixNano())
		return false, nil
	}
	return true, p.decode(ctx, reply, resp)
}

// decode decodes the answer to a forwarded call.
func (p *Peer) decode(ctx context.Context, reply forward.Reply, resp proto.Message) error {
	if reply.Status == nil {
		if err := proto.Unmarshal(reply.Response, resp); err != nil {
			return p.toError(ctx, status.Errorf(codes.Internal, "its response cannot be decoded: %v", err), true)
		}
		return nil
	}
	st := new(spb.Status)
	if err := proto.Unmarshal(reply.Status, st); err != nil {
		return p.toError(ctx, status.Errorf(codes.Internal, "its error cannot be decoded: %v", err), true)
	}
	return p.toError(ctx, status.ErrorProto(st), true)
}

// openLine opens the stream in the background, unless that is being done or was just tried.
func (p *Peer) openLine() {
	if p.shared.due.Load() > time.Now().UnixNano() || !p.Ready() || !p.shared.opening.CompareAndSwap(false, true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.lines.Go(p.runLine)
}

// runLine opens the stream and serves it until it has ended.
func (p *Peer) runLine() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := p.pick()
	c.calls.Add(1)
	defer c.calls.Add(-1)
	late := time.AfterFunc(openTimeout, cancel)
	line, err := openLine(ctx, c)
	late.Stop()
	if err != nil {
		again := openAgain
		if code := status.Code(err); code == codes.Unimplemented || code == codes.PermissionDenied {
			again = unknownAgain
		}
		p.shared.due.Store(time.Now().Add(again).UnixNano())
		p.shared.opening.Store(false)
		return
	}
	p.shared.line.Store(line)
	p.shared.opening.Store(false)
	// The calls that wait have its error: that of the stream says no more.
	_ = line.Run(func() { p.shared.line.CompareAndSwap(line, nil) }, cancel)
}

func openLine(ctx context.Context, c *conn) (*forward.Line, error) {
	stream, err := c.NewStream(ctx, &peerpb.Forwarding_ServiceDesc.Streams[0], peerpb.Forwarding_Forward_FullMethodName,
		grpc.ForceCodecV2(forward.Codec), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return nil, err
	}
	return forward.Open(stream)
}
