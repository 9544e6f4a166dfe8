package periodic

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/sleep"
)

// beat is what wakes the process anyway: at begun, and at each multiple of step since.
type beat struct {
	begun time.Time
	step  time.Duration
}

// shared is the beat of this process; nil if it has none.
var shared atomic.Pointer[beat]

// Beat says that something wakes this process at each step from now on, as Raft's ticks do. What
// waits from now on by Until or Wait, or is begun by Start, wakes with it where it can.
func Beat(step time.Duration) { shared.Store(&beat{begun: time.Now(), step: step}) }

// Until returns how long it takes to the next multiple of d on the process's beat, so that all
// that waits for the same d is due at the same moment; see Start for turn. That is d at most, and
// d if there is no beat.
func Until(turn uint64, d time.Duration) time.Duration {
	b := shared.Load()
	if b == nil || d <= 0 {
		return d
	}
	return until(b.of(turn), d)
}

// of is when the beat has begun for a turn.
func (b *beat) of(turn uint64) time.Time { return b.begun.Add(time.Duration(turn) * b.step) }

// Wait waits for what Until returns for turn 0, and returns true. It returns false at once when ctx ends.
func Wait(ctx context.Context, d time.Duration) bool {
	return sleep.For(ctx, Until(0, d))
}

// until is how long it takes to the next multiple of d since begun, which may be ahead.
func until(begun time.Time, d time.Duration) time.Duration {
	past := time.Since(begun) % d
	if past < 0 {
		return -past
	}
	return d - past
}
