// Package sleep pauses a goroutine until a time has passed or a context has ended.
package sleep

import (
	"context"
	"time"
)

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
