package route

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/forward"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// Ask makes a unary call of the node of a leg.
func (r *Router) Ask(ctx context.Context, l Leg, c Call, req, resp any) error {
	trace := kv.TraceOf(ctx)
	defer trace.Since(kv.Forward, trace.Start())
	p, err := r.pool.Peer(l.Owner.Address)
	if err != nil {
		return kv.Errorf(kv.Unavailable, "node %s: %w", l.Owner.Address, err)
	}
	// The stream that calls share has no place for a traceparent.
	if c.Small && trace.Onward() == "" {
		if taken, err := share(ctx, p, l, c, req, resp); taken {
			return err
		}
	}
	if !c.Mutates || !p.Ready() {
		watched, stop := Until(ctx, l.moved)
		defer stop()
		if err := p.Reach(watched); err != nil {
			return err
		}
		if !c.Mutates {
			ctx = watched
		}
		// A mutation that was sent is not given up when the owner changes: only the node
		// that got it can tell what became of it.
	}
	if ctx, err = forwardedContext(ctx, l.VBuckets); err != nil {
		return err
	}
	return p.Invoke(ctx, c.Method, req, resp)
}

// share makes a call over the stream that forwarded calls share, if that takes it.
func share(ctx context.Context, p *peer.Peer, l Leg, c Call, req, resp any) (taken bool, err error) {
	caller, err := auth.Vouch(ctx)
	if err != nil {
		return true, kv.Errorf(kv.Denied, "%w", err)
	}
	out := forward.Call{Method: c.Method, Request: req.(proto.Message), Caller: caller, VBuckets: l.names(), Client: kv.PlaceOf(ctx).Client()}
	if !c.Mutates {
		out.Moved = l.moved
	}
	return p.Forward(ctx, &out, resp.(proto.Message))
}

// Stream is a server's stream of another node's messages.
type Stream struct {
	stream *peer.Stream
	close  func()
	// opened ends the watch for another owner, and reports whether it had not ended the
	// stream.
	opened func() bool
}

// Open makes a streaming call of the node of a leg. The stream lives as long as ctx. Until
// Opened is called it also ends when opening does, and when the leg has another owner.
func (r *Router) Open(ctx, opening context.Context, l Leg, c Call, req any) (*Stream, error) {
	watched, stopWatch := Until(opening, l.moved)
	ctx, cancel := context.WithCancelCause(ctx)
	unbind := context.AfterFunc(watched, func() { cancel(context.Cause(watched)) })
	s := &Stream{
		close: func() {
			unbind()
			stopWatch()
			cancel(nil)
		},
		opened: func() bool {
			defer stopWatch()
			return unbind()
		},
	}
	p, err := r.pool.Reach(watched, l.Owner.Address)
	if err != nil {
		s.close()
		return nil, err
	}
	if ctx, err = forwardedContext(ctx, l.VBuckets); err == nil {
		s.stream, err = p.Stream(ctx, c.Method, req)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// Recv receives the next message into m. It returns io.EOF after the last.
func (s *Stream) Recv(m any) error { return s.stream.Recv(m) }

// Opened is called after the first message, from which on the stream stays with its node.
// Its error says that another node was to be asked just before.
func (s *Stream) Opened() error {
	if !s.opened() {
		return kv.Errorf(kv.Unavailable, "%w", errMoved)
	}
	return nil
}

// Close ends the stream.
func (s *Stream) Close() { s.close() }

// ownerPoll is how often the owner is compared while an answer is awaited.
const ownerPoll = 50 * time.Millisecond

var errMoved = errors.New("another node owns the log by now")

// Until returns a context that also ends when moved reports that another node is to be
// asked: the former owner may never answer. stop releases it.
func Until(ctx context.Context, moved func() bool) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(ownerPoll, func() {
		if moved() {
			cancel(errMoved)
			return
		}
		w.again()
	})
	return ctx, func() {
		w.stop()
		cancel(nil)
	}
}

// watch is a timer that runs again until it is stopped.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func (w *watch) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(ownerPoll)
	}
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
