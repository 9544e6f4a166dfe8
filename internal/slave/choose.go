package slave

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/fsm"
)

// chooser says which source to take: live followers in the slave's own data centre
// first, then the leader there, then followers elsewhere, then the leader; the one
// with the fewest slaves of equals. One that has failed is passed over for a while.
type chooser struct {
	dc, self string
	excluded map[string]*exclusion
}

// exclusion is that of one source.
type exclusion struct {
	until time.Time
	// length is that of the present or last one.
	length time.Duration
}

const (
	firstExclusion = time.Second
	maxExclusion   = 30 * time.Second
	// provenAfter is how long a source has to serve without failing until its
	// earlier failures are forgotten.
	provenAfter = 10 * time.Second
)

func newChooser(dc, self string) chooser {
	return chooser{dc: dc, self: self, excluded: make(map[string]*exclusion)}
}

// order returns sources, the best first. id is whose the slave's state is; those of
// another history come last. Where there is no state yet, the leader's is the one.
func (c *chooser) order(sources []Source, id fsm.Identity) []Source {
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

// class is how far a source is from what is wanted.
func (c *chooser) class(s Source, id fsm.Identity) int {
	class := 0
	if s.Status == serverpb.RegionStatus_LEADER {
		class++
	}
	if s.DC != c.dc {
		class += 2
	}
	if s.foreignTo(id) {
		class += 4
	}
	return class
}

// lot spreads slaves over sources that are equal otherwise.
func (c *chooser) lot(s Source) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.self + "\x00" + s.Address)) // never fails
	return h.Sum64()
}

// passedOver tells whether a source has failed lately.
func (c *chooser) passedOver(address string) bool {
	e := c.excluded[address]
	return e != nil && time.Now().Before(e.until)
}

// failed excludes a source, for twice as long as before unless it has proven itself
// since.
func (c *chooser) failed(address string, served time.Duration) {
	e := c.excluded[address]
	if e == nil || served >= provenAfter {
		e = new(exclusion)
		c.excluded[address] = e
	}
	e.length = min(max(2*e.length, firstExclusion), maxExclusion)
	e.until = time.Now().Add(e.length)
}

// forgive ends all exclusions: there is nobody else.
func (c *chooser) forgive() {
	for _, e := range c.excluded {
		e.until = time.Time{}
	}
}

// retain forgets what is known of sources that are gone for good.
func (c *chooser) retain(sources []Source) {
	for address := range c.excluded {
		if _, there := sourceOf(sources, address); !there && !c.passedOver(address) {
			delete(c.excluded, address)
		}
	}
}
