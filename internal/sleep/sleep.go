// Package sleep waits for a time to pass, or for a context to end.
package sleep

import (
	"context"
	"time"
)

// For waits, and tells whether ctx is still alive then.
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
