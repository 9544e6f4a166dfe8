package server

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// call is one call, from the arrival of its headers, when its message may not have
// arrived yet. It is also the call's context.
type call struct {
	context.Context
	calls *calls
	conn  *conn
	id    uint32 // of its stream
	begun time.Time
	// header is the call's metadata, which is not changed. identity is whose call it is, once
	// authorize has decided that; nil if callers are not distinguished.
	header   metadata.MD
	identity *auth.Identity
	// receiving is true until the first message has arrived completely; it changes under mu.
	receiving atomic.Bool
	// forwarded: the call came by a stream that it shares with others, and has none itself.
	forwarded bool
	// client is on whose behalf a forwarded call is made, as its stream says.
	client []byte
	// local: it came from another server of this process, which has authorized it.
	local bool
	out   outgoing
	// place is where the request holds a place; nil before, and once it is given back, which
	// happens once: when the request is ended, or its handler leaves.
	place atomic.Pointer[places]
	// trace says where the request spent its time. It is in the context of the call's handler if traced points to it; nil otherwise.
	trace  kv.Trace
	traced *kv.Trace
	unary  *unaryCall // nil if it is none
	// sends is true once a stream has had its turn to send, or has sent its first message.
	sends atomic.Bool

	// Under conn.mu: how many bytes and frames of the request have arrived and are held,
	// when the last one arrived, and whether they were released.
	bytes  int64
	frames int
	moved  time.Time
	over   bool
	// more, under conn.mu: messages arrive on the call's stream one after the other, and shared:
	// they are requests of other calls. What is counted is on its way until it is taken. asks: the
	// handler waits for a message, of which there is something since first.
	more, shared, asks bool
	first              time.Time
	// metadata, under conn.mu, is what that of a stream takes, if it is much: it is no part of what
	// arrives, and stays until the stream ends.
	metadata int64

	mu     sync.Mutex
	method *method
	stream transportStream // nil before there is a handler
	// request is what a stream of a known identity began with.
	request any
	ended   error // why the server has ended it
	parks   int   // how many goroutines wait on behalf of the call
	// parked is the host for which it counts as one that waits.
	parked netip.Addr
	// sending is since when a message has been waiting to be sent, and resume returns
	// where a client can resume the stream.
	sending time.Time
	resume  func() kv.Resume
	// taken is when the client last took much of a message, in Unix nanoseconds; 0 is never. One that is
	// large takes its time on a slow line.
	taken atomic.Int64
	// holds is what a stream's handler, which alone uses it, holds beside its messages.
	holds int64
}

// transportStream is implemented by gRPC's own stream, though not documented. Writing a
// status ends the stream, even while a handler waits for it.
type transportStream interface {
	WriteStatus(*status.Status) error
}

type callKey struct{}

// Value implements context.Context.
func (k *call) Value(key any) any {
	switch key.(type) {
	case callKey, kv.PlaceKey:
		return k
	case auth.ContextKey:
		return k.identity
	case kv.TraceKey:
		return k.traced
	}
	return k.Context.Value(key)
}

// callOf returns the call that a context belongs to; nil if none.
func callOf(ctx context.Context) *call {
	k, _ := ctx.Value(callKey{}).(*call)
	return k
}

// tap sees each call before gRPC starts a goroutine for it. The goroutine that reads the
// connection calls it and holds one of gRPC's locks meanwhile.
func (c *calls) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	k := &call{Context: ctx, calls: c, begun: time.Now(), header: info.Header}
	k.receiving.Store(true)
	k.moved = k.begun
	p, known := peer.FromContext(ctx)
	if !known {
		return k, nil
	}
	if a, ours := p.Addr.(addr); ours && ctx.Err() == nil { // gRPC ends one whose time is over at once, without a handler
		k.conn, k.id = a.conn, a.conn.stream
		k.conn.begun(k)
	}
	return k, nil
}

// enter records that a call has a handler. If the call has ended already it returns why.
func (k *call) enter(ctx context.Context, m *method) error {
	var stream transportStream
	if !k.forwarded {
		stream, _ = grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.method, k.stream = m, stream
	if k.conn != nil {
		k.conn.Begin()
	}
	return k.ended
}

// leave releases what the request held, at the end of the handler.
func (k *call) leave() {
	k.giveBack()
	if k.conn == nil {
		return
	}
	k.conn.release(k)
	k.conn.End()
}

// release releases what the request of a call holds. Frames that arrive for it from now
// on count as stray.
func (c *conn) release(k *call) {
	c.mu.Lock()
	if c.byStream[k.id] == k {
		delete(c.byStream, k.id)
	}
	n := k.bytes + k.metadata
	c.calls.wire.metadata.Add(-k.metadata)
	k.bytes, k.metadata, k.over = 0, 0, true
	if c.closed {
		n = 0 // Close has released it
	}
	c.received -= n
	c.mu.Unlock()
	if n > 0 {
		c.calls.wire.held.Add(-n)
	}
}

// arrived records that the first message has arrived. If the call has ended already it
// returns why; from now on the server cannot claim any more that it had no effect.
func (k *call) arrived() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended == nil {
		k.receiving.Store(false)
	}
	return k.ended
}

// endRequest ends a call whose message has not arrived yet.
func (k *call) endRequest(why error) bool {
	return k.end(func() error {
		if !k.receiving.Load() {
			return nil
		}
		return why
	})
}

// endStream ends a stream of responses, whatever its handler is doing.
func (k *call) endStream(why error) bool {
	return k.end(func() error { return k.resumable(why) })
}

// endStalled ends a stream whose message has been waiting to be sent for so long, and of which nothing was
// taken in that time. This is
// checked under the same lock as the end: a stream whose message has just been sent is not
// stalled any more, and its error could not say where to resume it.
func (k *call) endStalled(now time.Time, after time.Duration) bool {
	return k.end(func() error {
		if k.sending.IsZero() || now.Sub(k.sending) < after || now.Sub(time.Unix(0, k.taken.Load())) < after {
			return nil
		}
		return k.resumable(stallError(after))
	})
}

// end ends a call from outside its handler, if reason, which is called under mu, returns
// one: what the handler waits for fails, and the client gets the reason. It reports
// whether the call was ended.
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
	k.giveBack()
	if k.conn != nil {
		k.conn.release(k)
	}
	if stream != nil {
		_ = stream.WriteStatus(status.Convert(why)) // fails only for a connection that is closed
	}
	return true
}

// endedBy returns why the server has ended the call; err if it has not.
func (k *call) endedBy(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended != nil {
		return k.ended
	}
	return err
}

// resumable adds to an error where to resume the stream, if a message is being sent. The
// caller holds mu, so the handler cannot proceed meanwhile.
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

// Holds implements kv.Place.
func (k *call) Holds(bytes int64) { k.holds = bytes }

// beginSend says that a message is about to be sent.
func (k *call) beginSend() error {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = now
	return k.ended
}

// endSend says that gRPC has taken the message. If the call was ended meanwhile, its error
// names a position before the message, which may reach the client all the same.
func (k *call) endSend() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = time.Time{}
	return k.ended
}

// excused says that the message waits for memory that others hold, not for its reader: the
// time until now does not count as stalled.
func (k *call) excused() {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.sending.IsZero() {
		k.sending = now
	}
}

// stalled returns for how long the reader has kept a message from being sent.
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
		c, host := k.calls, k.Client().Host
		if err := c.waiting.enter(host); err != nil {
			c.limited(limitWaiting)
			return err
		}
		k.parked = host
		c.inFlight.taken.Add(-1)
	}
	k.parks++
	return nil
}

// Unpark implements kv.Place.
func (k *call) Unpark() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.parks--; k.parks == 0 && k.places() {
		k.calls.waiting.leave(k.parked)
		k.calls.inFlight.taken.Add(1)
	}
}

// Client implements kv.Place. Behind a node that forwards, clients are told apart by what it says
// of them: otherwise all of them would be one, and each wait for what the others have asked for.
func (k *call) Client() kv.Client {
	if k.conn == nil {
		return kv.Client{}
	}
	node := k.conn.client
	if said, ok := k.behind(); ok && k.conn.ofMember() {
		return behind(node, said)
	}
	return node
}

// behind returns the client that a call is forwarded for, as the sender says.
func (k *call) behind() (kv.Client, bool) {
	if k.forwarded {
		return kv.ParseClient(string(k.client))
	}
	if said := k.header.Get(kv.ClientKey); len(said) == 1 && k.has(forwardedKey) {
		return kv.ParseClient(said[0])
	}
	return kv.Client{}, false
}

// behind returns a client of another node as one of this node. Its connection has a number of the
// other process. A host that only the other node can reach is no other one than that node.
func behind(node, client kv.Client) kv.Client {
	conn := kv.Client{Host: node.Host, Conn: maphash.Comparable(seed, [2]kv.Client{{Host: node.Host}, client})}
	if !client.Host.IsLoopback() {
		conn.Host = client.Host
	}
	return conn
}

// seed keeps clients from choosing numbers that are the same.
var seed = maphash.MakeSeed()

// places reports whether the call counts as a request in flight.
func (k *call) places() bool { return k.method != nil && !k.method.streaming && !k.method.probe }
