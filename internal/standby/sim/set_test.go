package sim

import (
	"errors"
	"slices"
)

// A promotion of a set: the founder and the other slave become masters together.

var errNotOfSet = errors.New("not a part of this promotion")

// other returns the other slave.
func (s *slave) other(p *proc) *node {
	return p.slaves[(slices.Index(p.slaves, p.node)+1)%len(p.slaves)]
}

// part returns the slave's part in a promotion of another one that has sealed it.
func (n *node) part(of *promotion) (*slave, error) {
	if n.master != nil || n.slave.sealed != of.id {
		return nil, errNotOfSet
	}
	return n.slave, nil
}

type positions [vBuckets]int

func (s *slave) positions() (out positions) {
	for v := range s.copies {
		out[v] = len(s.copies[v].entries)
	}
	return out
}

// sealFor seals the slave for a promotion of another one, and returns how far its copies are.
func (s *slave) sealFor(p *proc, of *promotion, histories [vBuckets]string) (positions, error) {
	p.step()
	if p.node.slave != s || p.node.master != nil || s.promotion != nil || s.sealed != "" && s.sealed != of.id {
		return positions{}, errNotOfSet
	}
	for v := range s.copies {
		if s.copies[v].history != histories[v] {
			return positions{}, errNotOfSet
		}
		s.copies[v].synced = len(s.copies[v].entries)
	}
	s.sealed = of.id
	p.step()
	return s.positions(), nil
}

// between returns the entries of a copy that another node of the set lacks.
func (s *slave) between(v, from, to int) []entry { return slices.Clone(s.copies[v].entries[from:to]) }

// catchUp adds entries to a copy that is sealed.
func (s *slave) catchUp(v, from int, entries []entry) {
	if c := &s.copies[v]; len(c.entries) == from {
		c.entries = append(c.entries[:from:from], entries...)
		c.synced = len(c.entries)
	}
}

// equal seals the other node of the set, and brings both to the greatest index of any copy. It
// returns false if it has to be tried again, or was given up.
func (s *slave) equal(p *proc) bool {
	of := s.promotion
	if one := []*node{p.node, of.with}[p.rng.IntN(2)]; p.chance(0.2) {
		p.after(p.upTo(6*ms), func() { p.crash(one, p.upTo(lasting)) })
	}
	at, err := call(p, of.with, patience, func(q *proc) (positions, error) {
		return q.slave.sealFor(q, of, [vBuckets]string{s.copies[0].history, s.copies[1].history})
	})
	switch {
	case err == errTimeout:
		return false // it may come back
	case err != nil:
		s.giveUp(p)
		return false
	}
	for v := range vBuckets {
		if !s.level(p, v, at[v]) {
			return false
		}
	}
	if at, err = call(p, of.with, patience, func(q *proc) (positions, error) {
		o, err := q.part(of)
		if err != nil {
			return positions{}, err
		}
		return o.positions(), nil
	}); err != nil || at != s.positions() && !p.rules.has(unequal|foundersIndex) {
		return false
	}
	p.step()
	of.equal = true
	p.sets.Equal++
	return true
}

// level brings one log's copies, of which the other is at an index, to the greater one of both.
func (s *slave) level(p *proc, v, at int) bool {
	of, own := s.promotion, len(s.copies[v].entries)
	end := max(own, at)
	if p.rules.has(foundersIndex) {
		end = own
	}
	switch {
	case end < of.seals[v] && !p.rules.has(foundersIndex):
		s.giveUp(p) // the last changes of the masters did not arrive
		return false
	case own < end:
		got, err := call(p, of.with, patience, func(q *proc) ([]entry, error) {
			o, err := q.part(of)
			if err != nil || len(o.copies[v].entries) < end {
				return nil, errNotOfSet
			}
			return o.between(v, own, end), nil
		})
		if err != nil {
			return false
		}
		p.step()
		s.catchUp(v, own, got)
		p.sets.FounderLate++
	case at < end && !p.rules.has(unequal):
		got := s.between(v, at, end)
		_, err := call(p, of.with, patience, func(q *proc) (int, error) {
			o, err := q.part(of)
			if err == nil {
				q.step()
				o.catchUp(v, at, got)
			}
			return 0, err
		})
		if err != nil {
			return false
		}
		p.sets.OtherLate++
	}
	return true
}

// release ends the seal of the other node, and reports whether it is not sealed any more.
func (s *slave) release(p *proc) bool {
	of := s.promotion
	_, err := call(p, of.with, patience, func(q *proc) (int, error) {
		if q.node.master == nil && q.slave.sealed == of.id {
			q.slave.sealed = ""
		}
		return 0, nil
	})
	return err == nil
}

// tell has the other node of a set become one of the masters, however long that takes.
func (d *deployment) tell(p *proc, of *promotion, base [vBuckets][]entry) {
	for {
		_, err := call(p, of.with, patience, func(q *proc) (int, error) {
			if q.node.master != nil && q.node.master.deployment == d {
				return 0, nil
			}
			o, err := q.part(of)
			if err != nil {
				return 0, err
			}
			for v := range o.copies {
				if !slices.Equal(o.copies[v].entries, base[v]) && !q.rules.has(foundersIndex) {
					q.wrong = "masters of one deployment have different states"
				}
			}
			d.nodes = append(d.nodes, q.node)
			q.node.master, q.node.boot = &master{deployment: d}, q.node.bootMaster
			q.node.bootMaster()
			q.sets.Joined++
			return 0, nil
		})
		if err == nil {
			return
		}
		p.sleep(20 * ms)
	}
}
