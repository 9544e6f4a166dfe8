package forward

import (
	"context"
	"errors"
	"io"
	"sync"

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
	// Serve answers a call. Neither slice is used after it has returned.
	Serve(ctx context.Context, method, request []byte) Answer
}

const (
	// maxMessage bounds a message, maxRequest a single request in it and MaxResponse a
	// single response, in bytes: what is larger would hold up the others, and gains nothing.
	maxMessage  = 256 << 10
	maxRequest  = 64 << 10
	MaxResponse = 64 << 10
	// atOnce bounds the calls of a stream that are served at the same time.
	atOnce = maxWaiting
	// resting is how many goroutines of a stream stay ready for calls, with stacks that have
	// grown to what a call needs.
	resting = 128
	// maxOrigins bounds the contexts that are kept.
	maxOrigins = 256
)

// Serve answers the calls of a stream until the sender has ended it. message is the largest
// message that the stream can receive, in bytes. When drained is closed it asks the sender to
// end the stream.
func Serve(stream Receiving, message int, drained <-chan struct{}, h Handler) error {
	s := &serving{
		stream: stream, ctx: stream.Context(), handler: h, out: newOutbox(),
		origins: make(map[string]context.Context), cancels: make(map[uint64]context.CancelFunc),
		jobs: make(chan job), places: make(chan struct{}, atOnce),
	}
	largest := min(maxMessage, message/2)
	first := appendNumber(nil, fieldMaxMessage, uint64(largest))
	first = appendNumber(first, fieldMaxRequest, uint64(min(maxRequest, largest/2)))
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
	// origins are contexts by the encoded origin; for receive alone.
	origins map[string]context.Context

	// jobs takes a call to a worker that rests. places are taken by calls that are served.
	jobs    chan job
	workers sync.WaitGroup
	resting sync.Mutex
	rest    int // under resting
	places  chan struct{}

	mu      sync.Mutex
	cancels map[uint64]context.CancelFunc
}

// job is a call that is to be served.
type job struct {
	id              uint64
	ctx             context.Context
	method, request []byte
}

// receive hands calls to workers until the sender ends the stream.
func (s *serving) receive() error {
	for {
		var m Message
		if err := s.stream.RecvMsg(&m); err != nil {
			return err
		}
		var malformed error
		err := fields(m.data, func(field protowire.Number, _ uint64, data []byte) {
			if field == fieldElement && malformed == nil {
				malformed = s.take(data)
			}
		})
		if err := errors.Join(err, malformed); err != nil {
			return err
		}
	}
}

// take hands an encoded call to a worker, or cancels one.
func (s *serving) take(data []byte) error {
	c, err := parseCall(data)
	if err != nil {
		return err
	}
	if c.cancel {
		s.mu.Lock()
		cancel := s.cancels[c.id]
		s.mu.Unlock()
		if cancel != nil {
			cancel()
		}
		return nil
	}
	ctx, err := s.origin(c.origin)
	if err != nil {
		return err
	}
	select {
	case s.places <- struct{}{}:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	j := job{id: c.id, ctx: s.begin(ctx, c), method: c.method, request: c.request}
	select {
	case s.jobs <- j:
	default:
		s.workers.Go(func() { s.work(j) })
	}
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
	if len(s.origins) >= maxOrigins {
		clear(s.origins)
	}
	ctx := s.handler.Origin(s.ctx, o)
	s.origins[string(encoded)] = ctx
	return ctx, nil
}

// begin returns the context of a call, which done ends.
func (s *serving) begin(ctx context.Context, c call) context.Context {
	var cancel context.CancelFunc
	if c.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	s.mu.Lock()
	s.cancels[c.id] = cancel
	s.mu.Unlock()
	return ctx
}

func (s *serving) done(id uint64) {
	s.mu.Lock()
	cancel := s.cancels[id]
	delete(s.cancels, id)
	s.mu.Unlock()
	if cancel != nil { // the sender has used the id twice
		cancel()
	}
	<-s.places
}

// work serves calls until enough other workers rest, or the stream has ended.
func (s *serving) work(j job) {
	for open := true; open; {
		a := s.handler.Serve(j.ctx, j.method, j.request)
		s.answer(j.id, &a)
		s.done(j.id)
		if !s.mayRest() {
			return
		}
		j, open = <-s.jobs
		s.resting.Lock()
		s.rest--
		s.resting.Unlock()
	}
}

func (s *serving) mayRest() bool {
	s.resting.Lock()
	defer s.resting.Unlock()
	if s.rest >= resting {
		return false
	}
	s.rest++
	return true
}

// answer appends an answer to the next message, once there is room for it.
func (s *serving) answer(id uint64, a *Answer) {
	s.out.mu.Lock()
	for len(s.out.message) > maxMessage && !s.out.ended {
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
	s.out.wake()
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
