// Package clock is what a process takes for the time: its machine's wall clock,
// damped, because a wall clock can be years off, and what has expired by it is gone.
// DESIGN.md says what it promises and why.
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
	// mostJump is what a greater one counts as, so that sums with the time, which are in
	// nanoseconds since 1970, stay in range.
	mostJump = 100 * 365 * 24 * time.Hour
)

// Options are what a Clock is made of.
type Options struct {
	// MaxJump is how far the time may be from what a majority of the members' clocks
	// have reached, and how large a step of the wall clock a node that is alone
	// follows at once.
	MaxJump time.Duration
	// Member says that the node is one of several that vote, or may become so: until a
	// majority's clocks are known, its own can only hold the time back.
	Member bool
	// Slave says that the node goes by the time of another, its only voter, which is
	// set when the log's clock is. Its own counts as a member's does.
	Slave bool
	// Wall returns the machine's time; nil means time.Now.
	Wall func() time.Time
	// Elapsed is the time since some moment that stays the same while the process
	// lives. It goes on at real speed while the machine sleeps, whatever is done to
	// the wall clock. Nil means the runtime's monotonic clock.
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
	// heard are the other members' clocks as they were last read, and reset is the
	// value of Elapsed before which none was.
	heard map[uint64]reading
	reset time.Duration
	logs  logs
	pace  pace

	// learnt is raised when more clocks may be known.
	learnt signal.Signal
}

// New makes the clock of a node that is alone, or has not heard of the others yet.
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

// offset is how far a wall clock is ahead of Elapsed, in nanoseconds.
func offset(wall time.Time, elapsed time.Duration) int64 { return wall.UnixNano() - int64(elapsed) }

// MaxJump is how far clocks may be apart.
func (c *Clock) MaxJump() time.Duration { return c.o.MaxJump }

// Wall returns the machine's time, as it is.
func (c *Clock) Wall() time.Time { return c.o.Wall() }

// Elapsed is the time since some moment; see Options.
func (c *Clock) Elapsed() time.Duration { return c.o.Elapsed() }

// shown holds a number of milliseconds since 1970 and, above it, how often Reset was
// called: a Now that began before does not undo it.
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

// refreshAfter is for how long limits are moved on by the difference of two readings
// of the wall clock, before they are worked out again: an ordinary Now reads no other
// clock.
const refreshAfter = 100 * time.Millisecond

// limited is the wall clock within the limits, in nanoseconds since 1970.
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

// Reset forgets what Now has returned and accepts the wall clock as it is, within
// what the others' clocks allow: an operator has set a log's clock. What a slave has
// heard from before is void.
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

// Damped is by how much the wall clock is ahead of Now; it is negative where it is
// behind.
func (c *Clock) Damped() time.Duration {
	now := c.Now()
	d := c.o.Wall().Sub(now)
	if d.Abs() < time.Millisecond {
		return 0 // Now counts in milliseconds
	}
	return d
}
