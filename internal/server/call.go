package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/dkvdb/dkv/internal/kv"
)

// call is one call from its headers on, when nothing of its message may have come
// yet. It is the context of the call.
type call struct {
	context.Context
	calls *calls
	conn  *conn
	id    uint32 // of its stream
	begun time.Time
	// receiving until the first message is there, all of it; it changes under mu.
	receiving atomic.Bool
	out       outgoing

	// Under conn.mu: what has come of the request and is held for it, when the last
	// of it came, and whether that was given back.
	bytes  int64
	frames int
	moved  time.Time
	over   bool

	mu     sync.Mutex
	method *method
	stream transportStream // nil before there is a handler
	ended  error           // why the server has ended it
	parks  int             // who wait on behalf of the call
	// sending is since when a message has been waiting to be sent, and resume where
	// to go on with it.
	sending time.Time
	resume  func() kv.Resume
}

// transportStream is what gRPC's own stream can do beyond what it says. A status
// that is written to it is the end, also while a handler waits for it.
type transportStream interface {
	WriteStatus(*status.Status) error
}

type callKey struct{}

// Value implements context.Context.
func (k *call) Value(key any) any {
	switch key.(type) {
	case callKey, kv.PlaceKey:
		return k
	}
	return k.Context.Value(key)
}

// callOf returns the call that a context is of.
func callOf(ctx context.Context) *call {
	k, _ := ctx.Value(callKey{}).(*call)
	return k
}

// tap sees each call before it takes a goroutine. It is called by the goroutine
// that reads the connection, which holds a lock of gRPC's.
func (c *calls) tap(ctx context.Context, _ *tap.Info) (context.Context, error) {
	k := &call{Context: ctx, calls: c, begun: time.Now()}
	k.receiving.Store(true)
	k.moved = k.begun
	p, known := peer.FromContext(ctx)
	if !known {
		return k, nil
	}
	if a, ours := p.Addr.(addr); ours {
		k.conn, k.id = a.conn, a.conn.stream
		k.conn.mu.Lock()
		k.conn.byStream[k.id] = k
		k.conn.mu.Unlock()
	}
	return k, nil
}

// enter notes that a call has a handler. It returns why the call has ended already,
// if it has.
func (k *call) enter(ctx context.Context, m *method) error {
	stream, _ := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.method, k.stream = m, stream
	if k.conn != nil {
		k.conn.Begin()
	}
	return k.ended
}

// leave is the end of the handler: what the request held is given back.
func (k *call) leave() {
	if k.conn == nil {
		return
	}
	k.conn.release(k)
	k.conn.End()
}

// release gives back what the request of a call holds. What comes of it from now on
// is for no one.
func (c *conn) release(k *call) {
	c.mu.Lock()
	if c.byStream[k.id] == k {
		delete(c.byStream, k.id)
	}
	n := k.bytes
	k.bytes, k.over = 0, true
	if c.closed {
		n = 0 // is given back
	}
	c.received -= n
	c.mu.Unlock()
	if n > 0 {
		c.calls.wire.held.Add(-n)
	}
}

// arrived notes that the first message is there. It returns why the call has ended,
// if it has: from now on it cannot be told that it had no effect.
func (k *call) arrived() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended == nil {
		k.receiving.Store(false)
	}
	return k.ended
}

// endRequest ends a call whose message is not there yet.
func (k *call) endRequest(why error) bool {
	return k.end(func() error {
		if !k.receiving.Load() {
			return nil
		}
		return why
	})
}

// endStream ends a stream of responses, wherever it is.
func (k *call) endStream(why error) bool {
	return k.end(func() error { return k.resumable(why) })
}

// endStalled ends a stream whose message has been waiting to be sent for a time. That is
// looked at when it ends: a stream whose message has just been taken is not stalled any
// more, and could not say where to resume it.
func (k *call) endStalled(now time.Time, after time.Duration) bool {
	return k.end(func() error {
		if k.sending.IsZero() || now.Sub(k.sending) < after {
			return nil
		}
		return k.resumable(stallError(after))
	})
}

// end ends a call from outside, for the reason that is given under mu, if there is
// one: what its handler waits for fails, and the client is told why. It reports
// whether it did.
func (k *call) end(reason func() error) bool {
	k.mu.Lock()
	if k.ended != nil {
		k.mu.Unlock()
		return false
	}
	why := reason()
	k.ended = why
	stream := k.stream
	k.mu.Unlock()
	if why == nil {
		return false
	}
	if k.conn != nil {
		k.conn.release(k)
	}
	if stream != nil {
		_ = stream.WriteStatus(status.Convert(why)) // fails only for a connection that is closed
	}
	return true
}

// endedBy returns why the server has ended the call, or else err.
func (k *call) endedBy(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended != nil {
		return k.ended
	}
	return err
}

// resumable adds to an error where to go on, if a message is being sent: the handler
// stands still then, since it needs mu to go on, which the caller holds.
func (k *call) resumable(why error) error {
	st := status.Convert(why)
	info := &errdetails.ErrorInfo{Domain: kv.ErrorDomain, Reason: kv.ReasonStalled}
	if k.resume != nil && !k.sending.IsZero() {
		info.Metadata = k.resume()
	}
	if full, err := status.New(st.Code(), st.Message()).WithDetails(info); err == nil {
		return full.Err()
	}
	return why
}

// Resumable implements kv.Place.
func (k *call) Resumable(at func() kv.Resume) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.resume = at
}

// beginSend says that a message is about to be sent.
func (k *call) beginSend() error {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = now
	return k.ended
}

// endSend says that gRPC has taken the message. What ends the call has read by then
// where it stood: before the message, which may reach the client all the same.
func (k *call) endSend() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = time.Time{}
	return k.ended
}

// excused says that the message waits for what others hold, and not for its reader: the
// time until now does not count.
func (k *call) excused() {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.sending.IsZero() {
		k.sending = now
	}
}

// stalled is for how long a message has been waiting to be sent, by its reader.
func (k *call) stalled(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sending.IsZero() {
		return 0
	}
	return now.Sub(k.sending)
}

// Park implements kv.Place.
func (k *call) Park() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.parks == 0 && k.places() {
		c := k.calls
		if c.waiting.Add(1) > c.maxWaiting {
			c.waiting.Add(-1)
			c.limited(limitWaiting)
			return kv.Errorf(kv.Exhausted, "%d requests wait for a newer state or for room, which is the limit (a quarter of max-requests-in-flight); retry later, or ask another node (not applied)", c.maxWaiting)
		}
		c.inFlight.Add(-1)
	}
	k.parks++
	return nil
}

// Unpark implements kv.Place.
func (k *call) Unpark() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.parks--; k.parks == 0 && k.places() {
		k.calls.waiting.Add(-1)
		k.calls.inFlight.Add(1)
	}
}

// Client implements kv.Place.
func (k *call) Client() kv.Client {
	if k.conn == nil {
		return kv.Client{}
	}
	return kv.Client{Host: k.conn.Host(), Conn: k.conn.number}
}

// places reports whether the call has one of the places for requests in flight.
func (k *call) places() bool { return k.method != nil && !k.method.streaming && !k.method.probe }
