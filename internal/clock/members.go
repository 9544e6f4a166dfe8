package clock

import (
	"slices"
	"time"
)

// reading is another member's clock.
type reading struct {
	// offset is how far its wall clock was ahead of this node's Elapsed, give or take
	// uncertain.
	offset    int64
	uncertain time.Duration
	at        time.Duration
}

// drift is how fast two clocks may drift apart, as a share of the time that passes. The
// reading of a silent member becomes less certain by it.
const drift = 1e-4

// reached returns by how much a member's clock is ahead of this node's Elapsed at least.
func (r *reading) reached(now time.Duration) int64 {
	return r.offset - int64(r.uncertain) - int64(float64(now-r.at)*drift)
}

// majority returns the latest time that a majority of the voters' clocks have reached, as an
// offset to Elapsed, if the clocks of a majority are known.
func (c *Clock) majority(own int64, now time.Duration) (offset int64, known bool) {
	var reached []int64
	for _, id := range c.voters {
		if id == c.self {
			reached = append(reached, own)
		} else if r, is := c.heard[id]; is {
			reached = append(reached, r.reached(now))
		}
	}
	quorum := len(c.voters)/2 + 1
	if len(c.voters) == 0 || len(reached) < quorum {
		return 0, false
	}
	slices.Sort(reached)
	return reached[len(reached)-quorum], true
}

// Await returns what Known does, and a channel that is closed when Known may have changed.
func (c *Clock) Await() (known bool, changed <-chan struct{}) {
	changed = c.learnt.Changed()
	return c.Known(), changed
}

// Vote sets this node's id, 0 for none, and the members that vote. It drops the readings of
// members for which keep returns false.
func (c *Clock) Vote(self uint64, voters []uint64, keep func(id uint64) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if self != c.self || !slices.Equal(voters, c.voters) {
		c.self, c.voters = self, slices.Clone(voters)
		c.limits.Store(nil)
	}
	for id := range c.heard {
		if !keep(id) {
			delete(c.heard, id)
		}
	}
	c.learnt.Raise()
}

// Hear records a member's wall clock, which the member read between two values of Elapsed
// here.
func (c *Clock) Hear(id uint64, wall time.Time, sent, received time.Duration) {
	c.hear(id, wall, sent, received, false)
}

// HearSetBack is Hear of a slave's master whose time was set back: the slave's goes back with it.
func (c *Clock) HearSetBack(id uint64, wall time.Time, sent, received time.Duration) {
	c.hear(id, wall, sent, received, true)
}

func (c *Clock) hear(id uint64, wall time.Time, sent, received time.Duration, back bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sent < c.reset {
		return
	}
	half := max(received-sent, 0) / 2
	c.heard[id] = reading{offset: offset(wall, sent+half), uncertain: half, at: received}
	c.limits.Store(nil)
	if back {
		own, now := c.read()
		c.pace = pace{offset: offset(own, now), at: now}
		c.shown.Store(packed(c.shown.Load()>>millisBits+1, 0)) // after the limits, which Now reads after it
	}
	c.learnt.Raise()
}

// Known reports whether the clocks of a majority are known. It is always true on a node
// alone.
func (c *Clock) Known() bool {
	_, known := c.Majority()
	return known
}

// Majority returns the time that a majority of the voting members' clocks have reached, if
// the clocks of a majority are known. A node alone is its own majority.
func (c *Clock) Majority() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, now := c.read()
	if c.alone() {
		return wall, true
	}
	reached, known := c.majority(offset(wall, now), now)
	return time.Unix(0, reached+int64(now)), known
}

// Member describes a member's clock as this node sees it.
type Member struct {
	ID uint64
	// Skew is by how much its wall clock is ahead of this node's, give or take
	// Uncertain.
	Skew, Uncertain time.Duration
	// Ahead is by how much it is ahead of the majority's time. Off means that this is
	// certainly more than MaxJump, in either direction.
	Ahead time.Duration
	Off   bool
}

// Members returns the known clocks in the order of ids, including this node's if it has an
// id. None is Off while the clocks of a majority are not known.
func (c *Clock) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall, now := c.read()
	own := offset(wall, now)
	reached, known := c.majority(own, now)
	var out []Member
	add := func(id uint64, offset int64, uncertain time.Duration) {
		m := Member{ID: id, Skew: time.Duration(offset - own), Uncertain: uncertain}
		if known {
			m.Ahead = time.Duration(offset - reached)
			m.Off = m.Ahead.Abs()-uncertain > c.o.MaxJump
		}
		out = append(out, m)
	}
	if c.self != 0 {
		add(c.self, own, 0)
	}
	for id, r := range c.heard {
		add(id, r.offset, r.uncertain+time.Duration(float64(now-r.at)*drift))
	}
	slices.SortFunc(out, func(a, b Member) int { return int(a.ID) - int(b.ID) })
	return out
}
