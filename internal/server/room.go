package server

import (
	"context"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// turn is a response that waits for room.
type turn struct {
	n     int64
	ready chan struct{} // closed when the room is taken
}

// take reserves room for a response of n bytes. If there is none it returns the limit that
// was hit.
func (c *conn) take(n int64) (limit string) { return c.exchange(0, n) }

// exchange is take for a response that has been made, in the place of what was reserved
// before that, which is given back in any case.
func (c *conn) exchange(reserved, n int64) (limit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		c.last = n
	}
	if c.closed { // what was reserved is released, and it goes nowhere
		return ""
	}
	c.reserved -= reserved
	c.unwritten -= reserved
	c.calls.wire.held.Add(-reserved)
	switch {
	case n == 0:
	case n <= reserved:
		c.unwritten += n
		c.calls.wire.held.Add(n)
	case len(c.queue) > 0:
		limit = limitUnwritten
	default:
		limit = c.fit(n)
	}
	if reserved > 0 {
		c.grant()
	}
	return limit
}

// reserve notes that room which was taken is for a response that is yet to be made.
func (c *conn) reserve(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.reserved += n
	}
}

// usual is the size of the connection's last response that was counted.
func (c *conn) usual() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.last, countedFrom)
}

// fit is take regardless of the queue. The caller holds mu.
func (c *conn) fit(n int64) (limit string) { return c.fitWithin(n, c.mayLeave()) }

// insist is fit for one that has waited long. If the client has taken some responses meanwhile, of
// which it had taken so many bytes before, it reads, if slowly, and may leave as much as any.
func (c *conn) insist(n, before int64) (limit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken == before {
		return c.fit(n)
	}
	return c.fitWithin(n, c.calls.wire.perConnOut)
}

// fitWithin is fit for responses that may hold so much. The caller holds mu.
func (c *conn) fitWithin(n, most int64) (limit string) {
	w := c.calls.wire
	switch {
	case c.closed: // it goes nowhere, and is free at once
		return ""
	case c.unwritten >= most || c.unwritten > 0 && c.unwritten+n > w.perConnOut:
		return limitUnwritten
	case w.held.Add(n) > w.limit && w.held.Load() > n: // one is always let in
		w.held.Add(-n)
		return limitMemory
	}
	c.unwritten += n
	return ""
}

// mayLeave is what the responses may hold, by what the client has taken so far. The caller holds mu.
func (c *conn) mayLeave() int64 {
	return min(c.calls.wire.newConnOut+growth*c.taken, c.calls.wire.perConnOut)
}

// takenSoFar is taken.
func (c *conn) takenSoFar() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// full reports whether the responses hold as much as they may. The caller holds mu.
func (c *conn) full() bool { return c.unwritten >= c.mayLeave() }

// give releases what was taken for a response that has been sent.
func (c *conn) give(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.unwritten -= n
	c.calls.wire.held.Add(-n)
	c.grant()
}

// grant gives room to the responses that wait, in order, as far as there is any. What this
// connection gives back it learns of; for memory that others do it looks again.
// The caller holds mu.
func (c *conn) grant() {
	for len(c.queue) > 0 {
		next := c.queue[0]
		if c.short = c.fit(next.n); c.short != "" {
			if c.short == limitMemory {
				c.lookAgain()
			}
			return
		}
		close(next.ready)
		c.queue = c.queue[1:]
	}
	c.queue, c.short = nil, ""
}

// crowded reports whether another response would have to wait, so that it is too early to
// make it.
func (c *conn) crowded() bool {
	if w := c.calls.wire; w.held.Load() < w.newConnOut/4 {
		return false // next to nothing waits, on any connection
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) > 0 || c.full()
}

// memoryPause is the time between two attempts to get memory that other connections hold.
const memoryPause = 50 * time.Millisecond

// lookAgain has the connection look for memory after a pause, once for all that waits: thousands
// may, and only the first one can get any. The caller holds mu.
func (c *conn) lookAgain() {
	switch {
	case c.looking:
		return
	case c.again == nil:
		c.again = time.AfterFunc(memoryPause, c.lookForMemory)
	default:
		c.again.Reset(memoryPause)
	}
	c.looking = true
}

// lookForMemory takes the memory that there is by now. Only if that does not do, it makes room: what
// makes no progress is not ended for those who have found theirs meanwhile.
func (c *conn) lookForMemory() {
	c.mu.Lock()
	c.looking = false
	c.grant()
	short := c.looking
	c.mu.Unlock()
	if short && c.calls.makeRoom() {
		c.mu.Lock()
		c.grant()
		c.mu.Unlock()
	}
}

// await takes room for n bytes once there is some. If ctx ends first it returns the limit
// that was waited for. others, which may be nil, is called now and then while the
// memory is held by other connections.
func (c *conn) await(ctx context.Context, n int64, others func()) (limit string) {
	t := &turn{n: n, ready: make(chan struct{})}
	c.mu.Lock()
	c.queue = append(c.queue, t)
	c.grant()
	c.mu.Unlock()
	var tick <-chan time.Time
	if others != nil {
		ticker := time.NewTicker(memoryPause)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		if others != nil && c.heldByOthers() {
			others()
		}
		select {
		case <-t.ready:
			return ""
		case <-ctx.Done():
			return c.leave(t)
		case <-tick:
		}
	}
}

// heldByOthers reports whether memory is short that other connections hold: the client of this one has
// been reading its responses.
func (c *conn) heldByOthers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.short == limitMemory && c.slow == 0
}

// leave stops waiting. It returns the limit that the first response waits for, or nothing if
// the room was granted just now.
func (c *conn) leave(t *turn) (limit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, t)
	if i < 0 {
		return ""
	}
	limit = c.short
	c.queue = slices.Delete(c.queue, i, i+1)
	c.grant()
	return limit
}

// Crowded implements kv.Place: a stream that has begun to send waits for its reader by itself, and
// a call that has taken room has it.
func (k *call) Crowded() bool {
	switch u := k.unary; {
	case k.conn == nil:
		return false
	case u == nil:
		return !k.sends.Load() && k.conn.crowded()
	default:
		return u.method.repeatable && u.taken.Load() == 0 && u.conn.crowded()
	}
}

// AwaitRoom implements kv.Place. The size of the response is not known yet: it is taken to be
// that of the connection's last one that was counted.
func (k *call) AwaitRoom(ctx context.Context) error {
	u := k.unary
	if u == nil {
		return k.awaitTurn(ctx)
	}
	u.room.Lock() // several vBuckets may be read at once
	defer u.room.Unlock()
	if u.taken.Load() > 0 {
		return nil
	}
	return u.awaitRoom(ctx, u.conn.usual())
}

// awaitTurn waits until a stream's connection has room for its first message. As when a message waits,
// the reader is what is waited for, and the stream makes room for others if that takes long.
func (k *call) awaitTurn(ctx context.Context) error {
	if err := k.beginSend(); err != nil {
		return err
	}
	limit := k.conn.await(ctx, countedFrom, k.excused)
	if limit == "" {
		// The message has a size of its own, and does not wait for another turn: where
		// something always waits, that would never end.
		k.sends.Store(true)
		k.conn.give(countedFrom)
	}
	if err := k.endSend(); err != nil || limit == "" {
		return err
	}
	return context.Cause(ctx)
}

// awaitRoom reserves room for a response of n bytes that is yet to be made. It waits at most
// half the time that a request may take to arrive, and the call does not count as in flight
// meanwhile.
func (u *unaryCall) awaitRoom(ctx context.Context, n int64) error {
	c := u.calls
	if err := u.Park(); err != nil {
		return err
	}
	defer u.Unpark()
	if u.patience.IsZero() {
		u.patience = time.Now().Add(c.opts.ReceiveTimeout / 2)
	}
	wait, cancel := context.WithDeadline(ctx, u.patience)
	defer cancel()
	before := u.conn.takenSoFar()
	limit := u.conn.await(wait, n, nil)
	if limit == limitUnwritten && ctx.Err() == nil {
		limit = u.conn.insist(n, before)
	}
	switch {
	case limit == "":
		u.conn.reserve(n)
		u.taken.Store(n)
		return nil
	case ctx.Err() != nil:
		return kv.Errorf(kv.Unavailable, "waiting for room for the response: %w", ctx.Err())
	}
	c.limited(limit)
	if limit == limitMemory {
		return memoryFull(c.wire.limit)
	}
	u.conn.mu.Lock()
	most := u.conn.mayLeave()
	u.conn.mu.Unlock()
	return noRoom("responses that this connection has not taken come to %d MiB, which is the limit by what it took before; take them first, or use more connections (not applied)", most>>20)
}
