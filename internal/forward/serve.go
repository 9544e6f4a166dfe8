package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Receiving is the end of a stream that calls are answered by.
type Receiving interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

// Origin is whose calls they are and what they are about, as Call has it.
type Origin struct{ Caller, VBuckets []string }

// Answer is one of its fields.
type Answer struct {
	Response proto.Message
	// Encoded is a response that is encoded already. Its buffers are released.
	Encoded mem.BufferSlice
	Status  *spb.Status
	// TooLarge: the response is too large for the stream, and the call can be repeated.
	TooLarge bool
}

// Handler serves calls. Its methods are called concurrently.
type Handler interface {
	// Origin returns the context of the calls of an origin. It is kept for further ones.
	Origin(ctx context.Context, o Origin) context.Context
	// Serve answers a call, on behalf of whom the sender says: kv.ParseClient's text, empty for
	// itself. No slice is used after it has returned.
	Serve(ctx context.Context, client, method, request []byte) Answer
	// Quick reports whether calls of a method rarely wait for anything.
	Quick(method []byte) bool
	// Enter reports whether another call of a stream may be served, of which so many are under
	// way, and counts it if so; Leave ends that. It is asked again when one of them has ended,
	// and now and then: it may depend on other streams.
	Enter(busy int) bool
	Leave()
	// Hold counts n bytes of calls that are under way, until Release. Its status, if any, is the
	// answer to all of them.
	Hold(n int) *spb.Status
	Release(n int)
}

const (
	// maxMessage bounds a message, maxRequest a single request in it and MaxResponse a
	// single response, in bytes: what is larger would hold up the others, and gains nothing.
	maxMessage  = 256 << 10
	maxRequest  = 64 << 10
	MaxResponse = 64 << 10
	// AtOnce bounds the calls of a stream that are served at the same time, or whose answers wait.
	AtOnce = maxWaiting
	// resting is how many goroutines of a stream stay ready for calls, with stacks that have
	// grown to what a call needs.
	resting = 128
	// maxOrigins bounds the contexts that are kept, and maxOriginBytes what they were made of.
	maxOrigins, maxOriginBytes = 256, 128 << 10
	// heldFrom is the size from which a message is held for what it takes until its calls have
	// been served: each of them keeps all of it.
	heldFrom = 16 << 10
	// enterPause is the time between two questions whether a call may be served.
	enterPause = 50 * time.Millisecond
)

// Serve answers the calls of a stream until the sender has ended it. message is the largest
// message that the stream can receive, in bytes. When drained is closed it asks the sender to
// end the stream.
func Serve(stream Receiving, message int, drained <-chan struct{}, h Handler) error {
	s := &serving{
		stream: stream, ctx: stream.Context(), handler: h, out: newOutbox(), largest: min(maxMessage, message/2),
		origins: make(map[string]context.Context), calls: make(map[uint64]*job), jobs: make(chan *job),
	}
	s.room.L = &s.mu
	defer context.AfterFunc(s.ctx, s.look)()
	first := appendNumber(nil, fieldMaxMessage, uint64(s.largest))
	first = appendNumber(first, fieldMaxRequest, uint64(min(maxRequest, s.largest/2)))
	if err := stream.SendMsg(&Message{first}); err != nil {
		return err
	}
	var sender sync.WaitGroup
	sender.Go(func() { s.send(drained) })
	err := s.receive()
	close(s.jobs)
	s.workers.Wait()
	s.out.end()
	sender.Wait()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// serving is one stream.
type serving struct {
	stream  Receiving
	ctx     context.Context
	handler Handler
	out     *outbox
	// largest is the largest message that the sender is asked for.
	largest int
	// origins are contexts by the encoded origin, and known is the size of these; for receive
	// alone.
	origins map[string]context.Context
	known   int

	// gathered are quick calls that arrived and are not handed to a worker yet; for receive alone.
	gathered *batch
	// jobs takes a call, with its batch, to a worker that rests.
	jobs    chan *job
	workers sync.WaitGroup
	resting sync.Mutex
	rest    int // under resting
	// alone is how many of the next calls are not gathered.
	alone atomic.Int32

	mu sync.Mutex
	// calls are those that are under way.
	calls map[uint64]*job
	// room is signalled when one of them has ended, or it is time to look again.
	room sync.Cond
}

// held is a message of some size.
type held struct {
	size int
	// calls are those that are not served yet, and 1 while the message is read.
	calls atomic.Int64
	// refused is the answer to its calls if there is no room for it.
	refused *spb.Status
}

// hold counts a message of some size.
func (s *serving) hold(size int) *held {
	if size < heldFrom {
		return nil
	}
	m := &held{size: size, refused: s.handler.Hold(size)}
	m.calls.Store(1)
	return m
}

// served says that a call of a message was served.
func (s *serving) served(m *held) {
	if m != nil && m.calls.Add(-1) == 0 && m.refused == nil {
		s.handler.Release(m.size)
	}
}

var (
	errTooLarge = fmt.Errorf("%w: a message is larger than it may be", ErrMalformed)
	errTwice    = fmt.Errorf("%w: two calls have the same id", ErrMalformed)
)

// receive hands calls to workers until the sender ends the stream.
func (s *serving) receive() error {
	for {
		var m Message
		if err := s.stream.RecvMsg(&m); err != nil {
			return err
		}
		if len(m.data) > 2*s.largest { // cancellations are added to a full one
			return errTooLarge
		}
		from := s.hold(len(m.data))
		var malformed error
		err := fields(m.data, func(field protowire.Number, _ uint64, data []byte) {
			if field == fieldElement && malformed == nil {
				malformed = s.take(data, from)
			}
		})
		s.start()
		s.served(from)
		if err := errors.Join(err, malformed); err != nil {
			return err
		}
	}
}

// take hands an encoded call to a worker, or cancels one.
func (s *serving) take(data []byte, from *held) error {
	c, err := parseCall(data)
	if err != nil {
		return err
	}
	if c.cancel {
		s.mu.Lock()
		j := s.calls[c.id]
		s.mu.Unlock()
		if j != nil {
			j.end()
		}
		return nil
	}
	if from != nil && from.refused != nil {
		s.answer(c.id, &Answer{Status: from.refused})
		s.out.wake()
		return nil
	}
	ctx, err := s.origin(c.origin)
	if err != nil {
		return err
	}
	j := &job{callContext: callContext{origin: ctx}, id: c.id, client: c.client, method: c.method, request: c.request, from: from}
	if c.timeout > 0 {
		j.deadline = time.Now().Add(c.timeout)
	}
	if err := s.begin(j); err != nil {
		return err
	}
	if from != nil {
		from.calls.Add(1)
	}
	s.gather(j)
	return nil
}

// origin returns the context of an encoded origin.
func (s *serving) origin(encoded []byte) (context.Context, error) {
	if ctx := s.origins[string(encoded)]; ctx != nil {
		return ctx, nil
	}
	o, err := parseOrigin(encoded)
	if err != nil {
		return nil, err
	}
	ctx := s.handler.Origin(s.ctx, o)
	if len(encoded) > maxOriginBytes {
		return ctx, nil
	}
	if s.known += len(encoded); len(s.origins) >= maxOrigins || s.known > maxOriginBytes {
		clear(s.origins)
		s.known = len(encoded)
	}
	s.origins[string(encoded)] = ctx
	return ctx, nil
}

// begin counts a call, which done ends, once there is room for it.
func (s *serving) begin(j *job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.calls) >= AtOnce || !s.handler.Enter(len(s.calls)) {
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx)
		}
		s.start() // their end makes room
		again := time.AfterFunc(enterPause, s.look)
		s.room.Wait()
		again.Stop()
	}
	if _, twice := s.calls[j.id]; twice { // its context would have no end before the stream's
		s.handler.Leave()
		return errTwice
	}
	s.calls[j.id] = j
	return nil
}

// look has a call that waits for room look for it again.
func (s *serving) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room.Signal()
}

func (s *serving) done(j *job) {
	s.mu.Lock()
	delete(s.calls, j.id)
	s.handler.Leave()
	s.room.Signal()
	s.mu.Unlock()
	j.end()
}

// answer appends an answer to the next message, once there is room for it. The caller wakes
// the sender.
func (s *serving) answer(id uint64, a *Answer) {
	s.out.mu.Lock()
	for len(s.out.message) > maxMessage && !s.out.ended {
		s.out.wake()
		s.out.room.Wait()
	}
	before := len(s.out.message)
	message, err := appendAnswer(s.out.begin(), id, a)
	if err != nil {
		message, _ = appendAnswer(message[:before], id, &Answer{Status: &spb.Status{Code: codeInternal, Message: "encoding the response: " + err.Error()}})
	}
	s.out.message = message
	s.out.mu.Unlock()
	a.Encoded.Free()
}

// codeInternal is gRPC's code of an error of the server.
const codeInternal = 13

// send sends answers until the stream has ended, and asks the sender to end it when the
// server drains.
func (s *serving) send(drained <-chan struct{}) {
	defer s.out.end() // nothing waits for room any more
	for {
		select {
		case <-drained:
			drained = nil
			if s.stream.SendMsg(&Message{appendNumber(nil, fieldClosing, 1)}) != nil {
				return
			}
		case <-s.out.ready:
		}
		s.out.gather()
		s.out.mu.Lock()
		ended := s.out.ended // before take: what came before is sent
		s.out.mu.Unlock()
		if message := s.out.take(); message != nil {
			if s.stream.SendMsg(&Message{message}) != nil {
				return // receive returns the reason
			}
		}
		if ended {
			return
		}
	}
}
