// Package clock tells a process the time: its machine's wall clock within limits, because a
// wall clock can be years off, and keys that have expired by it are removed for good. The
// limits come from the clocks of the cluster's other members, or, on a node alone, from the
// time that has passed since. DESIGN.md says what is promised and why.
package clock

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/signal"
)

const (
	// DefaultMaxJump is the MaxJump of Options that have none.
	DefaultMaxJump = 10 * time.Second
	// mostJump limits MaxJump, so that sums with the time, which are in nanoseconds since
	// 1970, stay in range.
	mostJump = 100 * 365 * 24 * time.Hour
)

// Options configure a Clock.
type Options struct {
	// MaxJump is how far the time may be from the time that a majority of the members'
	// clocks have reached, and how large a step of the wall clock a node alone follows at
	// once.
	MaxJump time.Duration
	// Member says that the node is one of several voting members, or may become one. Until
	// the clocks of a majority are known, its own clock can only hold the time back.
	Member bool
	// Slave says that the node follows the time of its master, which is its only voter and
	// is set together with the log's clock. Its own clock counts as a member's does.
	Slave bool
	// Wall returns the machine's time; nil means time.Now.
	Wall func() time.Time
	// Elapsed returns the time since a moment that stays the same while the process lives.
	// It runs at real speed, also while the machine sleeps, and does not depend on the
	// wall clock. Nil means the runtime's monotonic clock.
	Elapsed func() time.Duration
	// Log defaults to none.
	Log *slog.Logger
}

// Clock tells the time. Its methods are safe for concurrent use.
type Clock struct {
	o Options
	// shown is the latest time that Now has returned, as packed makes it.
	shown  atomic.Uint64
	limits atomic.Pointer[limits]

	mu sync.Mutex
	// self is this node's id, 0 for none; voters are the members that vote.
	self   uint64
	voters []uint64
	// heard are the other members' clocks as they were last read. Readings from before
	// reset, a value of Elapsed, are ignored.
	heard map[uint64]reading
	reset time.Duration
	logs  logs
	pace  pace

	// learnt is raised when more clocks may be known.
	learnt signal.Signal
}

// New returns the clock of a node that is alone, or has not heard from the others yet.
func New(o Options) *Clock {
	if o.MaxJump <= 0 {
		o.MaxJump = DefaultMaxJump
	}
	o.MaxJump = min(o.MaxJump, mostJump)
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Elapsed == nil {
		begun := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(begun) }
	}
	o.Member = o.Member || o.Slave
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Clock{o: o, heard: make(map[uint64]reading)}
	wall, now := c.read()
	c.logs = logs{nanos: earliest.UnixNano(), at: now}
	c.pace = pace{offset: offset(wall, now), at: now}
	return c
}

// read reads both clocks.
func (c *Clock) read() (wall time.Time, elapsed time.Duration) { return c.o.Wall(), c.o.Elapsed() }

// offset returns how far a wall clock is ahead of Elapsed, in nanoseconds.
func offset(wall time.Time, elapsed time.Duration) int64 { return wall.UnixNano() - int64(elapsed) }

// MaxJump returns how far clocks may be apart.
func (c *Clock) MaxJump() time.Duration { return c.o.MaxJump }

// Wall returns the machine's time, as it is.
func (c *Clock) Wall() time.Time { return c.o.Wall() }

// Elapsed returns the time since a fixed moment; see Options.
func (c *Clock) Elapsed() time.Duration { return c.o.Elapsed() }

// Clock.shown holds a number of milliseconds since 1970 and, in the upper bits, the number of
// calls of Reset, so that a Now that began before a Reset does not undo it.
const (
	millisBits = 48
	millisMask = 1<<millisBits - 1
)

func packed(resets, millis uint64) uint64 { return resets<<millisBits | min(millis, millisMask) }

// Now returns the time, in milliseconds. It never goes back, unless Reset is called.
func (c *Clock) Now() time.Time {
	last := c.shown.Load()
	for {
		resets := last >> millisBits
		next := packed(resets, uint64(max(c.limited()/int64(time.Millisecond), 0)))
		for last>>millisBits == resets {
			if next <= last {
				return time.UnixMilli(int64(last & millisMask))
			}
			if c.shown.CompareAndSwap(last, next) {
				return time.UnixMilli(int64(next & millisMask))
			}
			last = c.shown.Load()
		}
	}
}

// refreshAfter is for how long the limits are advanced by the difference of two readings of
// the wall clock before they are calculated again. So most calls of Now read no other clock.
const refreshAfter = 100 * time.Millisecond

// limited returns the wall clock within the limits, in nanoseconds since 1970.
func (c *Clock) limited() int64 {
	wall := c.o.Wall()
	l := c.limits.Load()
	since := time.Duration(-1)
	if l != nil {
		since = wall.Sub(l.wall)
	}
	if since < 0 || since >= refreshAfter {
		l = c.refresh()
		wall, since = l.wall, 0
	}
	return min(max(wall.UnixNano(), moved(l.low, since)), moved(l.high, since))
}

// Reset forgets what Now has returned and accepts the wall clock as it is, within the limits
// of the others' clocks: an operator has set a log's clock. A slave's readings from before
// are dropped.
func (c *Clock) Reset(log time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, now := c.read()
	c.pace = pace{offset: offset(wall, now), at: now}
	c.logs = logs{nanos: max(log.UnixNano(), earliest.UnixNano()), at: now}
	if c.o.Slave {
		c.reset = now
		clear(c.heard)
	}
	c.limits.Store(nil)
	c.shown.Store(packed(c.shown.Load()>>millisBits+1, 0))
}

// Damped returns by how much the wall clock is ahead of Now. It is negative if the wall clock
// is behind.
func (c *Clock) Damped() time.Duration {
	now := c.Now()
	d := c.o.Wall().Sub(now)
	if d.Abs() < time.Millisecond {
		return 0 // Now counts in milliseconds
	}
	return d
}
