package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/internal/periodic"
)

const (
	// receiveTime is how long a request may take to arrive, plus a second for each leastRate
	// bytes: a mobile phone sends faster.
	receiveTime = 10 * time.Second
	leastRate   = 64 << 10
	// slowRate is the rate in bytes a second below which a connection counts as slow, and
	// slowLooks for how many looks in a row.
	slowRate  = 64 << 10
	slowLooks = 2
	// stuckBytes is how many bytes of responses a client may leave unread for longer than
	// stuckTimes the stall timeout of a stream: what is left of a stalled stream stays
	// for its reader to come back to.
	stuckBytes = 1 << 20
	stuckTimes = 10
	// lookEvery is the time between two looks at all calls.
	lookEvery = time.Second
)

// watch ends calls and connections that make no progress, until ctx ends.
func (c *calls) watch(ctx context.Context) {
	every := lookEvery
	for _, d := range []time.Duration{c.opts.ReceiveTimeout, c.opts.StallTimeout} {
		every = min(every, max(d/4, time.Millisecond))
	}
	for periodic.Wait(ctx, every) {
		c.look(time.Now(), every)
	}
}

// look ends what has made no progress for too long.
func (c *calls) look(now time.Time, every time.Duration) {
	if now.Sub(c.looked) >= lookEvery-every/2 { // a look that is a little early counts
		c.looked = now
		c.endExpired(now)
	}
	for _, conn := range c.conns() {
		for _, k := range conn.overdue(now, c.opts.ReceiveTimeout) {
			if k.endArrival(statusOf(codes.DeadlineExceeded,
				"the request did not arrive within %v and a second for each %d KiB; send it again (not applied)", c.opts.ReceiveTimeout, leastRate>>10)) {
				c.limited(limitReceive)
			}
		}
		if conn.look(now, every, c.opts.StallTimeout) {
			c.cut(conn, limitStalled, "its client has taken no responses for long (stream-stall-timeout)")
		}
	}
	for _, set := range []*streamSet{c.streams, c.following, c.watching} {
		for _, k := range set.all() {
			if k.endStalled(now, c.opts.StallTimeout) {
				c.limited(limitStalled)
			}
		}
	}
}

// begun records a call that has no handler yet. Some never get one, as those for which gRPC finds no
// method: they are forgotten at the next look, or here if there are more than the connection can
// have streams and handlers.
func (c *conn) begun(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byStream) >= 2*streamsPerConnection {
		for id, other := range c.byStream {
			if other.arrives() && other.Err() != nil {
				c.abandon(id, other)
			}
		}
	}
	c.byStream[k.id] = k
}

// overdue returns the calls whose requests take too long to arrive. It forgets calls that
// ended before they had a handler.
func (c *conn) overdue(now time.Time, within time.Duration) (out []*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.byStream {
		begun, first := k.begun, k.receiving.Load()
		if !first {
			begun = k.first
		}
		switch {
		case !k.arrives() || !first && !k.asks:
		case k.Err() != nil:
			c.abandon(id, k)
		case now.Sub(begun) > within+time.Duration(k.bytes)*time.Second/leastRate:
			out = append(out, k)
		}
	}
	return out
}

// abandon releases what a call holds that has ended. The caller holds mu.
func (c *conn) abandon(id uint32, k *call) {
	delete(c.byStream, id)
	if !c.closed {
		n := k.bytes + k.metadata
		c.received -= n
		c.calls.wire.held.Add(-n)
	}
	c.calls.wire.metadata.Add(-k.metadata)
	k.bytes, k.metadata, k.over = 0, 0, true
}

// look measures how fast the client reads its responses. It reports whether the connection
// is stuck: nothing was read for long, although much is unread or a Write waits for the
// socket.
func (c *conn) look(now time.Time, every, stalled time.Duration) (stuck bool) {
	blocked := c.blocked(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	made := c.unwritten - c.reserved
	switch {
	case made == 0:
		c.slow = 0
	case c.written < int64(slowRate*every/time.Second):
		c.slow++
	default:
		c.slow = 0
	}
	if c.written > 0 {
		c.still = 0
	} else if made > 0 {
		c.still += every
	}
	c.written = 0
	return blocked >= stalled || c.still >= stuckTimes*stalled && made > stuckBytes
}
