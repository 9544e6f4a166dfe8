package server

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// streamSet is the open streams of a kind. No kind uses up what another may have.
type streamSet struct {
	whose, limit string // for errors and metrics
	max          int

	mu   sync.Mutex
	open map[*call]struct{}
}

func newStreamSet(whose, limit string, most int) *streamSet {
	return &streamSet{whose: whose, limit: limit, max: most, open: make(map[*call]struct{})}
}

// add makes a stream one of the set. If the set is full it returns the stream that
// is to end for it, nil if none is.
func (s *streamSet) add(k *call, now time.Time) (instead *call, added bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.max {
		if instead = s.dispensable(k, now); instead == nil {
			return nil, false
		}
		delete(s.open, instead)
	}
	s.open[k] = struct{}{}
	return instead, true
}

func (s *streamSet) remove(k *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
}

func (s *streamSet) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// all returns the open streams.
func (s *streamSet) all() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*call, 0, len(s.open))
	for k := range s.open {
		out = append(out, k)
	}
	return out
}

// hesitation is how long a stream's reader must have taken nothing for the stream
// to make room for another one.
const hesitation = 2 * time.Second

// dispensable is the stream that another one takes the place of: the one whose
// reader has stalled for longest, or else the last one of the connection that has
// most, unless it has hardly more than the connection of the new one.
func (s *streamSet) dispensable(next *call, now time.Time) *call {
	var slowest *call
	longest := hesitation
	perConn := make(map[*conn]int)
	for k := range s.open {
		perConn[k.conn]++
		if d := k.stalled(now); d >= longest {
			slowest, longest = k, d
		}
	}
	if slowest != nil {
		return slowest
	}
	var busiest *conn
	for c, n := range perConn {
		if n > perConn[busiest] {
			busiest = c
		}
	}
	if busiest == nil || perConn[busiest] < perConn[next.conn]+2 {
		return nil
	}
	var last *call
	for k := range s.open {
		if k.conn == busiest && (last == nil || k.begun.After(last.begun)) {
			last = k
		}
	}
	return last
}

// open counts a stream; its error is that of one beyond the limit.
func (c *calls) open(k *call, m *method) error {
	set := c.setOf(m)
	instead, added := set.add(k, time.Now())
	if !added {
		c.limited(set.limit)
		return statusOf(codes.ResourceExhausted, "%d streams %sare open, which is the limit (max-streams); retry later", set.max, set.whose)
	}
	if instead != nil {
		c.limited(set.limit)
		instead.endStream(status.Errorf(codes.Aborted,
			"%d streams %sare open, which is the limit (max-streams), and this one made room for another client; resume it later", set.max, set.whose))
	}
	return nil
}

// setOf is the kind of stream that those of a method are.
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

// stallError ends a stream whose reader takes nothing.
func stallError(after time.Duration) error {
	return status.Errorf(codes.Aborted,
		"nothing of the stream was taken for %v (stream-stall-timeout); the details of this error tell where to resume it", after)
}

// guardedStream is a stream that the server can end while its handler waits.
type guardedStream struct {
	grpc.ServerStream
	ctx  context.Context
	call *call
}

// Context implements grpc.ServerStream.
func (s guardedStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream.
func (s guardedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		return s.call.arrived()
	}
	return s.call.endedBy(err)
}

// SendMsg implements grpc.ServerStream. Where to resume is asked for between the
// beginning and the end of sending, while the message is kept back.
func (s guardedStream) SendMsg(m any) error {
	if err := s.call.beginSend(); err != nil {
		return err
	}
	err := s.send(m)
	if ended := s.call.endSend(); ended != nil {
		return ended
	}
	return err
}

// send encodes a message and waits for room, so that what the message was made of
// can go while it waits for the reader.
func (s guardedStream) send(m any) error {
	k := s.call
	msg, size := k.countedSize(m)
	if size == 0 {
		return s.ServerStream.SendMsg(m)
	}
	if k.conn.take(size) != "" && k.conn.await(s.ctx, size) != "" {
		return context.Cause(s.ctx)
	}
	out, err := k.encoded(msg, size)
	if err != nil {
		return err
	}
	return s.ServerStream.SendMsg(out)
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
