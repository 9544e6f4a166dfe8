package forward

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// callContext is the context of a call: that of its origin, with an end. Most calls are served
// without waiting for anything, so what can be waited for is made when it is asked for.
type callContext struct {
	origin   context.Context
	deadline time.Time // zero if the call has none

	// waited reports that there is a context that can be waited for, which does not change.
	waited atomic.Bool
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex
	// err is what Err has returned, or context.Canceled once end was called.
	err error
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) {
	deadline, limited := c.origin.Deadline()
	if c.deadline.IsZero() || limited && deadline.Before(c.deadline) {
		return deadline, limited
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	if c.waited.Load() {
		return c.ctx.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waited.Load() {
		return c.ctx.Done()
	}
	if c.deadline.IsZero() || errors.Is(c.err, context.Canceled) { // the deadline may be over by now
		c.ctx, c.cancel = context.WithCancel(c.origin)
	} else {
		c.ctx, c.cancel = context.WithDeadline(c.origin, c.deadline)
	}
	if c.err != nil { // that of the origin or the deadline is there already
		c.cancel()
	}
	c.waited.Store(true)
	return c.ctx.Done()
}

// Err implements context.Context.
func (c *callContext) Err() error {
	if c.waited.Load() {
		return c.ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended()
}

// ended is Err with mu held.
func (c *callContext) ended() error {
	if c.waited.Load() {
		return c.ctx.Err()
	}
	if c.err != nil {
		return c.err
	}
	if c.err = c.origin.Err(); c.err == nil && !c.deadline.IsZero() && !time.Now().Before(c.deadline) {
		c.err = context.DeadlineExceeded
	}
	return c.err
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if c.waited.Load() {
		return c.ctx.Value(key) // where package context finds what it has made
	}
	return c.origin.Value(key)
}

// end ends the context.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waited.Load() {
		c.cancel()
		return
	}
	if c.ended() == nil {
		c.err = context.Canceled
	}
}
