package dkv

import (
	"context"
	"errors"
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
		return causeOf(ctx)
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

// ownCause is the cause that a caller has given for the end of its context, with context's own error,
// which such a cause need not wrap.
type ownCause struct {
	error
	ended error
}

// Unwrap lets errors.Is and errors.As see both.
func (o *ownCause) Unwrap() []error { return []error{o.error, o.ended} }

// awaitEnd waits for the end of a context whose deadline has passed: a server that has been told of it may say so
// a moment before the timer here goes off, and the caller's cause is not known until then.
func awaitEnd(ctx context.Context) {
	if deadline, limited := ctx.Deadline(); limited && time.Until(deadline) <= 0 {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second): // not a context of this package's kind
		}
	}
}

// causeOf returns why ctx has ended; nil if it has not.
func causeOf(ctx context.Context) error { return endedBy(ctx, context.Cause(ctx)) }

// endedBy returns an error that the end of ctx has caused, such that errors.Is finds context's error in it
// too. Others, and those with which this package ends a context, stay as they are.
func endedBy(ctx context.Context, err error) error {
	ended := ctx.Err()
	if err == nil || ended == nil || errors.Is(err, ended) || errors.Is(err, errStalled) || errors.Is(err, errUnanswered) || !errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return &ownCause{err, ended}
}
