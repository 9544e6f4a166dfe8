package source

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/history"
)

// LaterEra is why a source of a later era is better, at once.
const LaterEra = "a promotion has made it a master in the place of this one"

// fewerSlaves is how many slaves fewer an equal source must have: with a difference of
// one, slaves would move back and forth.
const fewerSlaves = 2

// Better returns the best source that is not passed over, and why it is better than the present one,
// which is at an address; nothing if it is not better, or the present one is not among the sources.
// id identifies the slave's state.
func (c *Chooser) Better(sources []Source, address string, id history.Identity) (Source, string) {
	present, there := At(sources, address)
	if !there {
		return Source{}, ""
	}
	for _, best := range c.Order(sources, id) {
		if c.PassedOver(best.Address) {
			continue
		}
		was, is := c.class(present, id), c.class(best, id)
		switch {
		case best.LaterThan(id) && best.History != present.History:
			return best, LaterEra
		case present.Awaits:
			return Source{}, ""
		case is < was && best.DC == c.dc && present.DC != c.dc:
			return best, "it is in this data centre"
		case is < was && present.slave:
			return best, "it is a master, and the present one a slave"
		case is < was:
			return best, "it is a follower, and the present one leads"
		case is == was && best.Order < present.Order:
			return best, "it is named before the present one"
		case is == was && best.Order == present.Order && best.Slaves+fewerSlaves <= present.Slaves:
			return best, fmt.Sprintf("it has %d slaves, and the present one %d", best.Slaves, present.Slaves)
		}
		break
	}
	return Source{}, ""
}

// Other returns the best source besides the present one, which is at an address; false if that owns the
// log and waits for this copy, or if there is no other one that is not passed over.
func (c *Chooser) Other(sources []Source, address string, id history.Identity) (Source, bool) {
	if present, _ := At(sources, address); present.Awaits {
		return Source{}, false
	}
	for _, other := range c.Order(sources, id) {
		if other.Address != address && !c.PassedOver(other.Address) {
			return other, true
		}
	}
	return Source{}, false
}
