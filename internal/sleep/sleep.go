// Package sleep pauses a goroutine until a time has passed or a context has ended, and tells how much
// time has passed while the machine may have slept.
package sleep

import (
	"context"
	"time"
)

// Since is time.Since, but for that it also counts for how long the machine was suspended: the wall
// clock goes on meanwhile, and the runtime's monotonic clock does not. A step forward of the wall
// clock counts too, a step back does not. It makes no system call.
func Since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// For waits for d and returns true. It returns false at once when ctx ends.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
