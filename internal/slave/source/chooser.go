package source

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm/history"
)

// Chooser orders the sources: live followers in the slave's own data centre first, then
// the leader there, then slaves there if slaves are followed, then followers elsewhere, then the leader; among equals the one with
// the fewest slaves first. A source that has failed is excluded for a while.
type Chooser struct {
	dc, self string
	excluded map[string]*exclusion
	// unfit are owners that wait for this copy and cannot be followed at present: others are
	// preferred for a while, but a state may be loaded from them.
	unfit map[string]*exclusion
	// full are sources that have lately had no place for this copy.
	full map[string]*exclusion
}

// exclusion is the exclusion of one source.
type exclusion struct {
	until time.Time
	// length is that of the present or last exclusion.
	length time.Duration
}

const (
	firstExclusion = time.Second
	maxExclusion   = 30 * time.Second
	// provenAfter is how long a source must serve without failing for its earlier
	// failures to be forgotten.
	provenAfter = 10 * time.Second
)

// NewChooser makes the chooser of a slave in a data centre, at an address.
func NewChooser(dc, self string) *Chooser {
	return &Chooser{dc: dc, self: self, excluded: make(map[string]*exclusion), unfit: make(map[string]*exclusion), full: make(map[string]*exclusion)}
}

// Order returns the sources, the best first. id identifies the slave's state; sources of
// another history come last. Without a state, the leader's history counts.
func (c *Chooser) Order(sources []Source, id history.Identity) []Source {
	out := slices.Clone(sources)
	if id.History == "" {
		if i := slices.IndexFunc(sources, func(s Source) bool { return s.Status == serverpb.RegionStatus_LEADER }); i >= 0 {
			id = sources[i].identity()
		}
	}
	slices.SortStableFunc(out, func(a, b Source) int {
		return cmp.Or(
			cmp.Compare(c.class(a, id), c.class(b, id)),
			cmp.Compare(a.Order, b.Order),
			cmp.Compare(a.Slaves, b.Slaves),
			cmp.Compare(c.lot(a), c.lot(b)),
		)
	})
	return out
}

// class ranks a source; the lowest is preferred.
func (c *Chooser) class(s Source, id history.Identity) int {
	class := 0
	if s.Awaits && !s.DeadFor(id) && !c.Declines(s.Address) {
		return -1
	}
	switch {
	case s.slave:
		class = 2 // after the masters of its data centre, and before those elsewhere
	case s.DC != c.dc:
		class = 3
	}
	if s.Status == serverpb.RegionStatus_LEADER {
		class++
	}
	if s.LaterThan(id) {
		class -= 5 // those of the state's own history may not know yet that they were replaced
	}
	if s.ForeignTo(id) {
		class += 5
	}
	return class
}

// lot spreads slaves over otherwise equal sources.
func (c *Chooser) lot(s Source) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.self + "\x00" + s.Address)) // never fails
	return h.Sum64()
}

// PassedOver reports whether a source has failed lately.
func (c *Chooser) PassedOver(address string) bool { return c.excluded[address].lasts() }

// Declines reports whether an owner that waits for this copy could not be followed lately.
func (c *Chooser) Declines(address string) bool { return c.unfit[address].lasts() }

func (e *exclusion) lasts() bool { return e != nil && time.Now().Before(e.until) }

// Failed excludes a source, for twice as long as before unless it has served for
// provenAfter since.
func (c *Chooser) Failed(address string, served time.Duration) { exclude(c.excluded, address, served) }

// Declined passes an owner over as one that waits for this copy, in the same way.
func (c *Chooser) Declined(address string) { exclude(c.unfit, address, 0) }

// Full excludes a source that has no place for this copy, for so long. It reports false, and does nothing, if
// that was said of it within that time before: no other one could be followed then.
func (c *Chooser) Full(address string, length time.Duration) bool {
	if c.full[address].lasts() {
		return false
	}
	until := time.Now().Add(length)
	c.full[address], c.excluded[address] = &exclusion{until: until}, &exclusion{until: until}
	return true
}

func exclude(from map[string]*exclusion, address string, served time.Duration) {
	e := from[address]
	if e == nil || served >= provenAfter {
		e = new(exclusion)
		from[address] = e
	}
	e.length = min(max(2*e.length, firstExclusion), maxExclusion)
	e.until = time.Now().Add(e.length)
}

// Forgive ends all exclusions, if there is no other source.
func (c *Chooser) Forgive() {
	for _, e := range c.excluded {
		e.until = time.Time{}
	}
}

// Retain drops what is known of sources that no longer exist.
func (c *Chooser) Retain(sources []Source) {
	for _, from := range []map[string]*exclusion{c.excluded, c.unfit, c.full} {
		for address, e := range from {
			if _, there := At(sources, address); !there && !e.lasts() {
				delete(from, address)
			}
		}
	}
}
