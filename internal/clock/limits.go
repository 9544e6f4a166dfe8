package clock

import (
	"math"
	"time"
)

// limits are the earliest and the latest time, as of a reading of the wall clock.
type limits struct {
	wall time.Time
	// low and high are in nanoseconds since 1970, as of wall, and advance with time.
	low, high int64
}

// Limits without effect.
const (
	always = math.MinInt64
	never  = math.MaxInt64
)

// moved returns a limit after some time.
func moved(limit int64, by time.Duration) int64 {
	if limit == always || limit == never {
		return limit
	}
	return limit + int64(by)
}

// refresh calculates the limits.
func (c *Clock) refresh() *limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, now := c.read()
	own := offset(wall, now)
	l := &limits{wall: wall, low: always, high: never}
	reached, known := c.majority(own, now)
	switch {
	case known && !c.alone():
		l.low, l.high = reached+int64(now)-int64(c.o.MaxJump), reached+int64(now)+int64(c.o.MaxJump)
		// If the node is left alone, it continues from here.
		c.pace = pace{offset: min(max(own+int64(now), l.low), l.high) - int64(now), at: now}
	case c.o.Member && !c.alone():
		l.high = c.logs.now(now)
		c.pace = pace{offset: own, at: now}
	default:
		c.follow(own, now)
		c.logs.compare(c, wall, now)
		l.high = c.pace.offset + int64(now)
	}
	c.limits.Store(l)
	return l
}

// alone reports whether there is no other clock to compare with.
func (c *Clock) alone() bool {
	if len(c.voters) == 0 {
		return !c.o.Member
	}
	return len(c.voters) == 1 && c.voters[0] == c.self
}

// pace is how a node alone follows its own wall clock.
type pace struct {
	// offset is by how much the time is ahead of Elapsed, in nanoseconds, as of at.
	offset int64
	at     time.Duration
	// slewing means that the time is catching up with a step of the wall clock.
	slewing bool
}

// follow moves the offset towards the wall clock's. A large step forward is followed no
// faster than time passes, so that the time runs at twice its speed until it has caught up.
// If the clock was behind the logs' clocks before the step, the step is followed at once: the
// clock was certainly wrong before, and is not certainly wrong now.
func (c *Clock) follow(own int64, now time.Duration) {
	p := &c.pace
	leap := own - p.offset
	passed := now - p.at
	wrong := p.offset+int64(p.at) < c.logs.now(p.at)-int64(c.o.MaxJump)
	p.at = now
	switch {
	case p.slewing, leap <= int64(c.o.MaxJump):
	case wrong:
		c.o.Log.Warn("the wall clock, which was behind the log's clock, was set forward", "by", rounded(leap), "to", at(own, now))
		c.logs.compared = false
	case leap > int64(passed):
		p.slewing = true
		c.o.Log.Error("the wall clock has jumped forward; it is followed at twice the speed of time. If it is wrong, set it right; "+
			"if it is right, dkvctl -resetClock or a restart accepts it at once", "by", rounded(leap), "to", at(own, now))
	}
	if p.slewing && leap > int64(passed) {
		p.offset += int64(passed)
		return
	}
	if p.slewing {
		p.slewing = false
		c.o.Log.Info("the time and the wall clock agree again")
	}
	p.offset = own
}

func rounded(nanos int64) time.Duration { return time.Duration(nanos).Round(time.Millisecond) }

// at returns the time that an offset stands for.
func at(offset int64, elapsed time.Duration) time.Time {
	return time.Unix(0, offset+int64(elapsed)).UTC()
}
