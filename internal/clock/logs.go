package clock

import "time"

// earliest is a date before this release. A wall clock that is behind it has not been set.
var earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// logs is the latest of the clocks of this node's logs at its start, advanced by the time
// that has passed since.
type logs struct {
	nanos int64
	at    time.Duration
	// known means that there was a log to continue from, and compared that the wall clock
	// was compared with it.
	known, compared bool
	// doubtful is the value of Elapsed until which the wall clock is in doubt.
	doubtful time.Duration
}

func (l *logs) now(elapsed time.Duration) int64 { return l.nanos + int64(elapsed-l.at) }

// ContinueFrom sets the clock of a log that this node has at its start. Until the clocks of a
// majority are known, a member's time continues from the latest of its logs' clocks.
func (c *Clock) ContinueFrom(log time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Elapsed()
	if log.UnixNano() <= c.logs.now(now) {
		return
	}
	c.logs = logs{nanos: log.UnixNano(), at: now, known: true}
	c.limits.Store(nil)
}

const (
	// suspicious is a time between the last entry of a log and the start of a node alone
	// that is more often a wrong clock than a long stop.
	suspicious = 24 * time.Hour
	// grace is how long keys that have expired by such a step are kept.
	grace = 10 * time.Minute
)

// compare logs a warning if the wall clock of a node alone is far from its log's clock.
func (l *logs) compare(c *Clock, wall time.Time, now time.Duration) {
	if !l.known || l.compared {
		return
	}
	l.compared = true
	log := time.Unix(0, l.now(now))
	switch jump := wall.Sub(log); {
	case jump > suspicious:
		l.doubtful = now + grace
		c.o.Log.Warn("the wall clock is far ahead of the log's clock, because it is wrong or the node was stopped for long: keys that have expired by it "+
			"are hidden now and removed later; if the clock is wrong, set it right and run dkvctl -resetClock before that",
			"by", jump.Round(time.Second), "wall", wall.UTC(), "log", log.UTC(), "removed after", grace)
	case -jump > c.o.MaxJump:
		c.o.Log.Warn("the wall clock is behind the log's clock: no key expires until it has caught up; "+
			"if the log's clock is wrong, dkvctl -resetClock sets it back", "by", (-jump).Round(time.Second), "wall", wall.UTC(), "log", log.UTC())
	}
}

// Doubtful reports whether expired keys should be kept for now: the node is alone, and its
// clock was far ahead of its log's when it started.
func (c *Clock) Doubtful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alone() && c.o.Elapsed() < c.logs.doubtful
}
