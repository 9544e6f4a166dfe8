package standby

import "time"

// Outlasts returns how long a clock must run so that a lease of d, which another clock
// measures, has ended: D(1+eps) of DESIGN.md.
func Outlasts(d time.Duration) time.Duration { return d + d/10 + 1 }

// LeaseOf returns how long the record's lease lasts if slaves are promoted after a time: the
// promotion waits for D(1+eps), and needs a part of that time itself.
func LeaseOf(promoteAfter time.Duration) time.Duration {
	return (promoteAfter * 10 / 12).Truncate(time.Millisecond)
}
