package lease

import "time"

// Clock measures time on one node. It never goes back, and continues while the machine
// sleeps: a lease must not outlive a suspension that the others have waited out.
type Clock interface {
	// Now is the time since some moment that stays the same while the process
	// lives.
	Now() time.Duration
	// NewTimer returns a channel that receives after d, give or take, and what releases the
	// timer. Its caller looks at Now again.
	NewTimer(d time.Duration) (<-chan time.Time, func())
}

// SystemClock is the machine's clock.
type SystemClock struct{}

// NewTimer implements Clock.
func (SystemClock) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
