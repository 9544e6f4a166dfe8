//go:build !linux

package lease

import "time"

// origin is the moment that Now counts from.
var origin = time.Now()

// Now implements Clock by the runtime's monotonic clock. It may stand still
// while the machine is suspended: do not suspend a master there.
func (SystemClock) Now() time.Duration { return time.Since(origin) }
