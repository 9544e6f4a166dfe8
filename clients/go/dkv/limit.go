package dkv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// timeLimits makes contexts for calls without a deadline. A context with a timer costs
// seven allocations; calls that begin at about the same time share one, and so may run
// a little longer than the timeout.
type timeLimits struct {
	timeout time.Duration
	root    context.Context
	end     context.CancelFunc
	current atomic.Pointer[sharedLimit]
	mu      sync.Mutex // held while current is replaced
}

// sharedLimit is a context for the calls that begin before it is too old.
type sharedLimit struct {
	context.Context
	until time.Time
	// cancel is not called: other calls may still use the context. The deadline, or
	// the root's end, releases it.
	cancel context.CancelFunc
}

// limitShare is the longest time for which new calls share a context, and so how much
// later than the timeout a call may end.
const limitShare = 20 * time.Millisecond

func newTimeLimits(timeout time.Duration) *timeLimits {
	l := &timeLimits{timeout: timeout}
	l.root, l.end = context.WithCancel(context.Background())
	return l
}

// get returns a context that ends after the timeout. The caller need not cancel it: its
// deadline, or the end of the client, does.
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
	s.Context, s.cancel = context.WithDeadline(l.root, s.until.Add(l.timeout))
	l.current.Store(s)
	return s
}

// noCancel is the cancel function of a context that needs none.
func noCancel() {}

// bounded returns ctx with the client's time limit, unless it has a deadline.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, limited := ctx.Deadline(); limited {
		return ctx, noCancel
	}
	if ctx == context.Background() || ctx == context.TODO() {
		return c.limits.get(), noCancel
	}
	return context.WithTimeout(ctx, c.opts.timeout)
}
