package clock

import "time"

// earliest is before anything that a node of this release was told the time for: a
// wall clock that is behind it has not been set.
var earliest = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// logs is the greatest of the clocks of this node's logs when it began to count, at a
// value of Elapsed, and what has passed since.
type logs struct {
	nanos int64
	at    time.Duration
	// known says that there was a log to go on from, and compared that the wall clock
	// was held against it.
	known, compared bool
	// doubtful is until when the wall clock is doubted.
	doubtful time.Duration
}

func (l *logs) now(elapsed time.Duration) int64 { return l.nanos + int64(elapsed-l.at) }

// GoOnFrom says where a log's clock stands that this node has at its start: until a
// majority's clocks are known, the time of a member goes on from the greatest of them.
func (c *Clock) GoOnFrom(log time.Time) {
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
	// suspicious is a step between the last entry of a log and the start of a node
	// alone that is more often a wrong clock than a long rest.
	suspicious = 24 * time.Hour
	// grace is how long what has expired by such a step is kept.
	grace = 10 * time.Minute
)

// compare says where the wall clock of a node alone, which has no other to believe, is
// far from its log's.
func (l *logs) compare(c *Clock, wall time.Time, now time.Duration) {
	if !l.known || l.compared {
		return
	}
	l.compared = true
	log := time.Unix(0, l.now(now))
	switch jump := wall.Sub(log); {
	case jump > suspicious:
		l.doubtful = now + grace
		c.o.Log.Warn("the wall clock is far ahead of the log's clock, and nothing tells a wrong clock from a long rest: what has expired by it "+
			"is hidden now and removed later; if the clock is wrong, set it right and run dkvctl -resetClock before that",
			"by", jump.Round(time.Second), "wall", wall.UTC(), "log", log.UTC(), "removed after", grace)
	case -jump > c.o.MaxJump:
		c.o.Log.Warn("the wall clock is behind the log's clock: no key expires until it has caught up; "+
			"if the log's clock is wrong, dkvctl -resetClock sets it back", "by", (-jump).Round(time.Second), "wall", wall.UTC(), "log", log.UTC())
	}
}

// Doubtful reports whether what has expired should be kept for now: the node is alone,
// and its clock was far ahead of its log's when it started.
func (c *Clock) Doubtful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alone() && c.o.Elapsed() < c.logs.doubtful
}
