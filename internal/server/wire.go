package server

import (
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/kv"
)

// wire counts the memory of messages in transit: requests from their first byte until they
// are served, and responses until they are sent.
type wire struct {
	// limit bounds it for all connections, perConn the requests of one and
	// perConnOut its responses, which newConnOut bounds while the client has taken none.
	limit, perConn, perConnOut, newConnOut int64
	held                                   atomic.Int64
	// metadata is what the metadata of streams takes of that.
	metadata atomic.Int64

	mu       sync.Mutex
	searched time.Time // for something to end, without success
}

const (
	// leastOut is what the responses of a connection may hold, if the limit allows it.
	leastOut = 64 << 20
	// firstOut is what they may hold before the client has taken any, and growth how much more for
	// each byte that it has: a connection that takes nothing costs little. A client that takes what
	// one stream sends may look at other things meanwhile: up to two messages of the stream are on
	// their way then, and what the second is made of.
	firstOut, growth = 4 << 20, 4
)

func newWire(limit int64, message int) *wire {
	if limit <= 0 {
		const unbounded = 1 << 62
		return &wire{limit: unbounded, perConn: unbounded, perConnOut: leastOut, newConnOut: firstOut}
	}
	out := max(min(leastOut, limit/4), 2*int64(message))
	return &wire{limit: limit, perConn: limit / 2, perConnOut: out, newConnOut: min(firstOut, out, limit)}
}

const (
	// stale is after how long without progress a request or a connection may be ended to
	// make room for others.
	stale = time.Second
	// metadataPart is which part of the memory the metadata of all streams may take without any being
	// ended for it. The usual token of a few KiB is no reason: little becomes free, and it makes progress.
	metadataPart = 8
	// searchPause bounds how often stale ones are searched for.
	searchPause = 10 * time.Millisecond
)

// relieve makes room when a frame of a request has exceeded a limit: it ends the largest
// request that makes no progress (of the same connection, if that one's limit was
// exceeded), or else the request itself.
func (c *calls) relieve(k *call, connFull bool) {
	if k.conn.makeRoom(connFull) {
		return
	}
	c.limited(limitMemory)
	why := toStatus(memoryFull(c.wire.limit))
	if connFull {
		why = exhausted(requestPause,
			"requests that this connection sends may take %d MiB at once (half of max-memory-in-flight); send fewer at once, or use more connections (not applied)",
			c.wire.perConn>>20)
	}
	k.endRequest(why)
}

// makeRoom ends what makes no progress, of the connection itself if its own limit was exceeded.
// It reports whether there was such a thing.
func (c *conn) makeRoom(full bool) bool {
	if full {
		return c.calls.endStalest(c.stalest(time.Now()))
	}
	return c.calls.makeRoom()
}

// memoryFull is the error of a request that there is no memory for.
func memoryFull(limit int64) error {
	return noRoom("messages that are on their way take all of the %d MiB for them (max-memory-in-flight); retry later, or send less at once (not applied)", limit>>20)
}

// noRoom is the error of a request whose messages have to wait too long for others.
func noRoom(format string, args ...any) error {
	err := kv.Errorf(kv.Exhausted, format, args...)
	err.RetryAfter = requestPause
	return err
}

// makeRoom ends the request or connection that holds most of the memory for messages without making
// progress, or the stream whose metadata does if that of all takes much. It reports whether there was one.
func (c *calls) makeRoom() bool {
	now := time.Now()
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	if now.Sub(c.wire.searched) < searchPause {
		return false
	}
	var most holder
	for _, conn := range c.conns() {
		if h := conn.stalest(now); h.bytes > most.bytes {
			most = h
		}
		if h := conn.slowest(); h.bytes > most.bytes {
			most = h
		}
	}
	if !c.endStalest(most) {
		c.wire.searched = now
		return false
	}
	return true
}

// holder is what holds memory: the request of a call, or if there is none the
// responses of a connection.
type holder struct {
	bytes int64
	call  *call
	conn  *conn
	// stream: the call is a stream whose metadata is a part of that.
	stream bool
}

// endStalest ends a holder of memory. It reports false if it holds none.
func (c *calls) endStalest(h holder) bool {
	switch {
	case h.bytes == 0:
		return false
	case h.call == nil:
		c.cut(h.conn, limitMemory, "its client takes no responses, and their memory is needed")
	case h.stream:
		c.limited(limitMemory)
		h.call.endStream(status.Errorf(codes.Aborted,
			"the metadata of this stream, and what has come of its message, take %d KiB of the memory for messages, which is needed (max-memory-in-flight); resume it later, with less metadata", h.bytes>>10))
	default:
		c.limited(limitMemory)
		h.call.endArrival(exhausted(requestPause,
			"nothing came of the request for %v, and its memory is needed (max-memory-in-flight); send it again (not applied)", stale))
	}
	return true
}

// stalest returns the request, or the message of a client's stream, that holds most among those of
// which nothing has arrived lately. Once the metadata of all streams takes much, that of a stream
// counts however busy the stream is, since it becomes no less.
func (c *conn) stalest(now time.Time) (most holder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.calls.wire
	much := w.metadata.Load() > w.limit/metadataPart
	for _, k := range c.byStream {
		var n int64
		if much && now.Sub(k.begun) >= stale {
			n = k.metadata
		}
		if k.arrives() && now.Sub(k.moved) >= stale {
			n += k.bytes
		}
		if n > most.bytes {
			most = holder{bytes: n, call: k, conn: c, stream: much && k.metadata > 0}
		}
	}
	return most
}

// slowest returns the connection if its client has been reading its responses slowly.
func (c *conn) slowest() holder {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.unwritten - c.reserved
	if c.slow < slowLooks || made == 0 {
		return holder{}
	}
	return holder{bytes: made, conn: c}
}

// statusOf is an error of the server itself, by which the call had no effect.
func statusOf(code codes.Code, format string, args ...any) error {
	return explained(status.Newf(code, format, args...), kv.ReasonNotApplied)
}
