package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
)

const (
	// receiveTime is how long a request may take to arrive, and leastRate the bytes
	// a second that it may take longer for: a mobile phone sends more.
	receiveTime = 10 * time.Second
	leastRate   = 64 << 10
	// slowRate is the bytes a second below which a connection takes its responses
	// slowly, and slowLooks for how many looks in a row it has to.
	slowRate  = 64 << 10
	slowLooks = 2
	// stuckBytes is how much a connection may keep of responses that it does not
	// take, and stuckTimes for how many times as long as a stream: what is left of a
	// stream that has stalled is there for its reader to come back to.
	stuckBytes = 1 << 20
	stuckTimes = 10
	// lookEvery is the time between two looks at all calls.
	lookEvery = time.Second
)

// watch tells of audit lines that were left out, and looks after calls and connections that make no progress until ctx ends.
func (c *calls) watch(ctx context.Context) {
	every := lookEvery
	for _, d := range []time.Duration{c.opts.ReceiveTimeout, c.opts.StallTimeout} {
		every = min(every, max(d/4, time.Millisecond))
	}
	t := time.NewTicker(every)
	defer t.Stop()
	defer func() { c.audits.tell(time.Now()) }()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			c.look(now, every)
		}
	}
}

// look ends what has made no progress for too long.
func (c *calls) look(now time.Time, every time.Duration) {
	if now.Sub(c.audited) >= lookEvery {
		c.audited = now
		c.audits.tell(now)
	}
	for _, conn := range c.conns() {
		for _, k := range conn.overdue(now, c.opts.ReceiveTimeout) {
			if k.endRequest(statusOf(codes.DeadlineExceeded,
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

// overdue are the calls whose requests take too long to arrive. Calls that ended
// before they had a handler are forgotten.
func (c *conn) overdue(now time.Time, within time.Duration) (out []*call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.byStream {
		switch {
		case !k.receiving.Load():
		case k.Err() != nil:
			c.abandon(id, k)
		case now.Sub(k.begun) > within+time.Duration(k.bytes)*time.Second/leastRate:
			out = append(out, k)
		}
	}
	return out
}

// abandon gives back what a call holds that has ended. The caller holds mu.
func (c *conn) abandon(id uint32, k *call) {
	delete(c.byStream, id)
	if !c.closed {
		c.received -= k.bytes
		c.calls.wire.held.Add(-k.bytes)
	}
	k.bytes, k.over = 0, true
}

// look notes how fast the connection takes its responses. It reports whether it has
// taken none for a time, although they are many or their sender waits for the
// socket.
func (c *conn) look(now time.Time, every, stalled time.Duration) (stuck bool) {
	blocked := c.blocked(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.unwritten == 0:
		c.slow = 0
	case c.written < int64(slowRate*every/time.Second):
		c.slow++
	default:
		c.slow = 0
	}
	if c.written > 0 {
		c.still = 0
	} else if c.unwritten > 0 {
		c.still += every
	}
	c.written = 0
	return blocked >= stalled || c.still >= stuckTimes*stalled && c.unwritten > stuckBytes
}
