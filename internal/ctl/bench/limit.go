package bench

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// opLimit bounds the time of a worker's operations without a timer and a
// context for each of them: begin and end note the time, and a watchdog cancels
// what takes too long. It is coarse, which does not matter for a limit, and it
// costs nothing on the server, which would otherwise keep a timer too.
type opLimit struct {
	parent  context.Context
	timeout time.Duration

	mu      sync.Mutex
	ctx     context.Context
	cancel  context.CancelFunc
	started time.Time // zero between operations
	expired bool
}

func newOpLimit(parent context.Context, timeout time.Duration) *opLimit {
	l := &opLimit{parent: parent, timeout: timeout}
	l.ctx, l.cancel = context.WithCancel(parent)
	return l
}

// begin returns the context for the operation that begins now.
func (l *opLimit) begin(now time.Time) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = now
	return l.ctx
}

// end ends the operation. The error of one that the watchdog cancelled becomes
// DeadlineExceeded.
func (l *opLimit) end(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started = time.Time{}
	if !l.expired {
		return err
	}
	l.expired = false
	l.ctx, l.cancel = context.WithCancel(l.parent)
	if err == nil {
		return nil
	}
	return status.Errorf(codes.DeadlineExceeded, "no answer within %s", l.timeout)
}

// check cancels the operation that has been running for too long.
func (l *opLimit) check(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started.IsZero() && !l.expired && now.Sub(l.started) > l.timeout {
		l.expired = true
		l.cancel()
	}
}

func (l *opLimit) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel()
}

// watch checks the limits from time to time until ctx is done.
func watch(ctx context.Context, limits []*opLimit, timeout time.Duration) {
	ticker := time.NewTicker(min(max(timeout/10, time.Millisecond), 100*time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, l := range limits {
				l.check(now)
			}
		}
	}
}
