package route

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// firstPause and lastPause are the pauses between two attempts to find an owner: a
	// hand-over takes some tens of milliseconds, an election seconds.
	firstPause = 4 * time.Millisecond
	lastPause  = 128 * time.Millisecond
	// maxOwnerWait bounds the attempts if the caller sets no deadline: a request that
	// waits takes the place of another.
	maxOwnerWait = 10 * time.Second
	// answerMargin is the least time before the caller's deadline at which a wait ends.
	answerMargin = 20 * time.Millisecond
)

// BeforeDeadline returns a context that ends a little before its parent's deadline, so that
// the reason still reaches the caller.
func BeforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, limited := ctx.Deadline()
	if !limited {
		return ctx, func() {}
	}
	left := time.Until(deadline)
	// A caller that waits for long may be far away.
	return context.WithDeadline(ctx, deadline.Add(-min(max(answerMargin, left/20), left/4)))
}

// Repeat calls attempt until it is done, until limit, or until the context ends. It returns
// the error of the last attempt, and whether that attempt was done.
func Repeat(ctx context.Context, limit time.Time, attempt func() (done bool, err error)) (done bool, err error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if done, err = attempt(); done {
			return true, err
		}
		wait := min(pause/2+rand.N(pause), time.Until(limit))
		if !sleep.For(ctx, wait) || !time.Now().Before(limit) {
			return false, err
		}
	}
}

// repeat calls attempt, which looks for the owner each time, until it is done or the caller
// waits no longer. An attempt is not done if another node, or the same one later, may serve
// the request.
func (c Call) repeat(ctx context.Context, attempt func() (done bool, err error)) error {
	limit := time.Now().Add(maxOwnerWait)
	if deadline, limited := ctx.Deadline(); limited {
		limit = deadline
	}
	done, err := Repeat(ctx, limit, attempt)
	if !done {
		return c.gaveUp(ctx, err)
	}
	return err
}

// Local is the result of an attempt on this node: final, unless this node is no longer the
// owner.
func Local(err error) (done bool, _ error) { return err == nil || !isNotOwner(err), err }

// Remote is the result of an attempt on another node: not final if a further attempt is
// safe and may succeed.
func (c Call) Remote(err error) (done bool, _ error) {
	switch {
	case err == nil:
		return true, nil
	case c.mayRepeat(err):
		return false, err
	default:
		return true, c.Explain(err)
	}
}

// mayRepeat reports whether another attempt is safe and may succeed. A node that was removed
// since it was the owner says so of itself: the other members have another owner.
func (c Call) mayRepeat(err error) bool {
	switch kind := kv.KindOf(err); {
	case kind == kv.NotOwner, kind == kv.Unavailable, errors.Is(err, kv.ErrRemoved):
		return !c.Mutates || kv.OutcomeOf(err) == kv.NotApplied
	default:
		return false
	}
}

// isNotOwner reports whether err says only that another node is the owner.
func isNotOwner(err error) bool {
	return kv.KindOf(err) == kv.NotOwner && kv.OutcomeOf(err) == kv.NotApplied
}
