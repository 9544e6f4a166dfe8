package dkv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// timeLimits makes contexts for calls that bring no deadline. A context with a
// timer costs seven allocations; calls that begin at about the same time share
// one, and so live a little longer than they have to.
type timeLimits struct {
	timeout time.Duration
	root    context.Context
	end     context.CancelFunc
	current atomic.Pointer[sharedLimit]
	mu      sync.Mutex // while current is replaced
}

// sharedLimit is a context for the calls that begin before it is too old.
type sharedLimit struct {
	context.Context
	until time.Time
	// cancel is not called: calls that others made may still live. The deadline,
	// or the root's end, does the same.
	cancel context.CancelFunc
}

// limitShare is for how long calls share a context, at most: that much later than
// they should they may end.
const limitShare = 20 * time.Millisecond

func newTimeLimits(timeout time.Duration) *timeLimits {
	l := &timeLimits{timeout: timeout}
	l.root, l.end = context.WithCancel(context.Background())
	return l
}

// get returns a context that ends after the timeout. It needs no cancel: it does so
// by itself, or when all end.
func (l *timeLimits) get() context.Context {
	now := time.Now()
	if s := l.current.Load(); s != nil && now.Before(s.until) {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.current.Load(); s != nil && now.Before(s.until) {
		return s
	}
	share := min(limitShare, l.timeout/8)
	s := &sharedLimit{until: now.Add(share)}
	s.Context, s.cancel = context.WithDeadline(l.root, now.Add(share+l.timeout))
	l.current.Store(s)
	return s
}

// noCancel is that of a context which ends by itself.
func noCancel() {}

// bounded gives ctx the client's time limit, where it has none.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, limited := ctx.Deadline(); limited {
		return ctx, noCancel
	}
	if ctx == context.Background() || ctx == context.TODO() {
		return c.limits.get(), noCancel
	}
	return context.WithTimeout(ctx, c.opts.timeout)
}
