package server

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/tracing"
)

// streamSet is the open streams of one kind. Each kind has a limit of its own.
type streamSet struct {
	whose, limit string // for errors and metrics
	max          int

	mu sync.Mutex
	of map[*call]kv.Client // whose each of them is, as it was when that began
	// byClient are those of a client, none of which is empty, and byHost how many a host has, none of
	// which is 0.
	byClient map[kv.Client]map[*call]struct{}
	byHost   map[netip.Addr]int
	// looked is when all streams were last searched for a stalled one without success.
	looked time.Time
}

func newStreamSet(whose, limit string, most int) *streamSet {
	return &streamSet{whose: whose, limit: limit, max: most,
		of: make(map[*call]kv.Client), byClient: make(map[kv.Client]map[*call]struct{}), byHost: make(map[netip.Addr]int)}
}

// add adds a stream to the set. If the set is full, it removes another stream for it and
// returns that one, which the caller ends; it adds nothing if there is none to remove.
func (s *streamSet) add(k *call, now time.Time) (instead *call, added bool) {
	client := k.Client()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.of) >= s.max {
		if instead = s.dispensable(client, now); instead == nil {
			return nil, false
		}
		s.drop(instead)
	}
	s.of[k] = client
	if s.byClient[client] == nil {
		s.byClient[client] = make(map[*call]struct{})
	}
	s.byClient[client][k] = struct{}{}
	s.byHost[client.Host]++
	return instead, true
}

func (s *streamSet) remove(k *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(k)
}

// drop is remove with mu held. The stream may have been removed before.
func (s *streamSet) drop(k *call) {
	client, open := s.of[k]
	if !open {
		return
	}
	delete(s.of, k)
	if s.byHost[client.Host]--; s.byHost[client.Host] == 0 {
		delete(s.byHost, client.Host)
	}
	if delete(s.byClient[client], k); len(s.byClient[client]) == 0 {
		delete(s.byClient, client)
	}
}

func (s *streamSet) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of)
}

// all returns the open streams.
func (s *streamSet) all() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.of))
}

const (
	// hesitation is how long a stream's reader must have taken nothing before the stream
	// makes room for another one.
	hesitation = 2 * time.Second
	// lookPause bounds how often all streams are searched for such a one, so that a client
	// which floods a full set does not cause a search with each call.
	lookPause = 20 * time.Millisecond
)

// dispensable returns the stream that one of the client next replaces: the one that has stalled for longest,
// or else the newest one of the host with the most streams, unless that has hardly more than the
// host of the new one. Then it is one of that host, if one of its connections has more than that of
// the new one. Of a host's connections the one with the most streams is chosen. It returns nil if
// there is none: a host with many connections, each with few streams, keeps no other one out. Behind a
// node that forwards, clients are told apart as elsewhere.
func (s *streamSet) dispensable(next kv.Client, now time.Time) *call {
	if now.Sub(s.looked) >= lookPause {
		if slowest := s.slowest(now); slowest != nil {
			return slowest
		}
		s.looked = now
	}
	from, limit := next.Host, s.byHost[next.Host]+1
	for host, n := range s.byHost {
		if n > limit {
			from, limit = host, n
		}
	}
	var most map[*call]struct{}
	for client, of := range s.byClient {
		if len(of) > len(most) && client.Host == from {
			most = of
		}
	}
	if from == next.Host && len(most) < len(s.byClient[next])+2 {
		return nil
	}
	var last *call
	for k := range most {
		if last == nil || k.begun.After(last.begun) {
			last = k
		}
	}
	return last
}

// slowest returns the stream that has stalled for longest; nil if none has.
func (s *streamSet) slowest(now time.Time) (slowest *call) {
	longest := hesitation
	for k := range s.of {
		if d := k.stalled(now); d >= longest {
			slowest, longest = k, d
		}
	}
	return slowest
}

// open counts a stream; its error is that of one beyond the limit.
func (c *calls) open(k *call, m *method) error {
	set := c.setOf(m)
	instead, added := set.add(k, time.Now())
	if !added {
		c.limited(set.limit)
		return exhausted(streamPause, "%d streams %sare open, which is the limit (max-streams); retry later", set.max, set.whose)
	}
	if instead != nil {
		c.limited(set.limit)
		instead.endStream(status.Errorf(codes.Aborted,
			"%d streams %sare open, which is the limit (max-streams), and this one made room for another client; resume it later", set.max, set.whose))
	}
	return nil
}

// setOf returns the set of a method's streams.
func (c *calls) setOf(m *method) *streamSet {
	switch {
	case m.probe:
		return c.watching
	case m.following:
		return c.following
	default:
		return c.streams
	}
}

// stallError is the error of a stream whose reader takes nothing.
func stallError(after time.Duration) error {
	return status.Errorf(codes.Aborted,
		"nothing of the stream was taken for %v (stream-stall-timeout); the details of this error tell where to resume it", after)
}

// guardedStream is a stream that the server can end while its handler waits for it.
type guardedStream struct {
	grpc.ServerStream
	ctx  context.Context
	call *call
	// audit enters the call in the audit log with its request, before the handler has that; nil
	// if such calls are not audited.
	audit func(req any) error
	span  *tracing.Call // nil if the stream is not sampled
	sends bool          // the client sends a stream of messages
}

// Context implements grpc.ServerStream.
func (s guardedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s guardedStream) RecvMsg(m any) error {
	if err := s.receive(m); err != nil {
		return s.call.endedBy(err)
	}
	s.span.Received()
	if err := s.call.arrived(); err != nil {
		return err
	}
	if err := s.call.permitStream(m); err != nil || s.audit == nil {
		return err
	}
	return s.audit(m)
}

// receive reads a message. What gRPC cannot receive or decode would be an internal error, as if
// the server had failed and not the client.
func (s guardedStream) receive(m any) error {
	message, ok := m.(pb.Message)
	if !ok || s.call.local {
		return s.next(m)
	}
	in := streamedMessage{message: message}
	if err := s.next(&in); err != nil {
		// For example, the stream ends without a request. gRPC has told the client already; the
		// log and the metrics count the error below.
		if status.Code(err) == codes.Internal {
			return statusOf(codes.InvalidArgument, "no request can be received: %s (not applied)", status.Convert(err).Message())
		}
		return err
	}
	if s.call.conn != nil {
		s.call.conn.took(s.call, int64(in.size))
	}
	return in.refused
}

// next reads a message from gRPC. Of a client's stream it is known meanwhile that its message is awaited.
func (s guardedStream) next(m any) error {
	if c := s.call.conn; c != nil && s.sends {
		c.ask(s.call, true)
		defer c.ask(s.call, false)
	}
	return s.ServerStream.RecvMsg(m)
}

// SendMsg implements grpc.ServerStream. The position to resume at is read while the
// message waits, between beginSend and endSend.
func (s guardedStream) SendMsg(m any) error {
	s.call.sends.Store(true)
	if err := s.call.beginSend(); err != nil {
		return err
	}
	bytes := 0
	if s.span != nil {
		bytes = size(m) // not after it: m would be kept for as long as the receiver is slow
	}
	err := s.send(m)
	if ended := s.call.endSend(); ended != nil {
		return ended
	}
	if err == nil {
		s.span.Sent(bytes)
	}
	return err
}

// sources is how many times a message's size a stream holds beside the message: an
// iterator has the last pair and the next one, and a message's pairs are copies. One that
// holds more says so (kv.Place). Streams that follow something bound what they hold themselves.
const sources = 2

// send encodes a message once there is room for it and for what it was made of.
func (s guardedStream) send(m any) error {
	k := s.call
	msg, size := k.countedSize(m)
	beside := k.held()
	if !k.method.endless {
		beside = max(beside, sources*size)
	}
	if size+beside == 0 {
		return s.ServerStream.SendMsg(m)
	}
	if k.conn.take(size+beside) != "" {
		if err := s.await(size + beside); err != nil {
			return err
		}
	}
	defer k.conn.give(beside)
	if size == 0 {
		return s.ServerStream.SendMsg(m)
	}
	out, err := k.encoded(msg, size)
	if err != nil {
		return err
	}
	return s.ServerStream.SendMsg(out)
}

// held is what is counted of that which the handler holds beside a message. Half of what a connection
// may leave unread is the most: the handler has it in any case, and must get on at some time.
func (k *call) held() int64 {
	if k.conn == nil || k.holds < countedFrom {
		return 0
	}
	return min(k.holds, k.calls.wire.perConnOut/2)
}

// await waits until there is room for n bytes. Messages that wait are in memory already,
// so their sum is bounded, too: beyond that a stream is ended, and can be resumed.
func (s guardedStream) await(n int64) error {
	c, k := s.call.calls, s.call
	if !c.reserveWaiting(n) {
		c.limited(limitMemory)
		k.endStream(status.Errorf(codes.Aborted,
			"the messages of streams that wait for their readers take all of the %d MiB for them (max-memory-in-flight); the details of this error tell where to resume this one", c.wire.limit>>20))
		return context.Canceled // the stream has ended with that
	}
	defer c.streamsWaiting.Add(-n)
	if k.conn.await(s.ctx, n, k.excused) != "" {
		return context.Cause(s.ctx)
	}
	return nil
}

// reserveWaiting counts n bytes of a message that waits, and reports whether it may. One
// message may always wait, however large it is.
func (c *calls) reserveWaiting(n int64) bool {
	for {
		waiting := c.streamsWaiting.Load()
		if waiting > 0 && waiting+n > c.wire.limit {
			return false
		}
		if c.streamsWaiting.CompareAndSwap(waiting, waiting+n) {
			return true
		}
	}
}

// endlessStream is a stream whose context ends, with errDrained as its cause, and
// whose RecvMsg returns, when the server drains: a client may keep it open for as
// long as it likes.
type endlessStream struct{ guardedStream }

// RecvMsg implements grpc.ServerStream.
func (s endlessStream) RecvMsg(m any) error {
	// Ends at the latest with the call, which ends when the handler returns.
	received := make(chan error, 1)
	go func() { received <- s.guardedStream.RecvMsg(m) }()
	select {
	case err := <-received:
		return err
	case <-s.ctx.Done():
		return s.call.endedBy(context.Cause(s.ctx))
	}
}
