package dkv

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// Pauses between two attempts, each with jitter: transferring leadership takes some tens
	// of milliseconds, an election seconds. Pauses double up to slowPause and then grow by a
	// quarter up to maxPause, which they reach after about five seconds: more requests do
	// not help a vBucket that has had no leader for that long.
	firstPause = time.Millisecond
	slowPause  = 200 * time.Millisecond
	maxPause   = time.Second
)

// nextPause returns the pause that follows one of d.
func nextPause(d time.Duration) time.Duration {
	if d < slowPause {
		return min(2*d, slowPause)
	}
	return min(d+d/4, maxPause)
}

// jitter returns d plus or minus up to a quarter, so that clients do not act in step.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// sleep waits for d, or until the topology changes. If ctx would end during the wait, only
// such a change is worth another attempt: without one, sleep waits for the end of ctx and
// returns its error.
func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	changed := c.changed.Changed()
	var over <-chan time.Time
	if deadline, limited := ctx.Deadline(); !limited || time.Until(deadline) > d {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return nil
	case <-changed:
		return nil
	case <-c.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sleepOr waits for d, or until early is closed, and reports whether ctx is still alive.
func sleepOr(ctx context.Context, d time.Duration, early <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-early:
		return true
	case <-ctx.Done():
		return false
	}
}
