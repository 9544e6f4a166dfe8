package sim

import (
	"context"
	"maps"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
)

// gone is how long a founder is gone at least before an operator ends its seals by force: longer
// than a claim may be under way here, and then the leases of the masters that it replaces.
const gone = 3 * lasting

// leaveFounder has a founder crash about now, and an operator end its seals before it is back.
func (w *world) leaveFounder(n *node) {
	w.after(w.upTo(4*ms), func() {
		of := n.slave.promotion
		if !n.up || n.master != nil || of == nil || of.decided {
			return
		}
		d := w.ofEra(of.era)
		if w.chance(0.5) {
			w.crash(n, gone+50*ms+w.upTo(lasting))
			w.after(gone+w.upTo(50*ms), func() { d.endSeals(w) })
			return
		}
		if w.chance(0.7) {
			w.crash(n, w.upTo(gone))
		}
		w.after(w.upTo(20*ms), func() { d.nodes[w.rng.IntN(len(d.nodes))].spawn(d.endSealsByRecord) })
	})
}

// endSealsByRecord ends the seals of a deployment once no claim fits the record that their founder
// makes: without force, at any time.
func (d *deployment) endSealsByRecord(p *proc) {
	if !p.rules.has(recordLeft) {
		_, err := p.changeRecord(&peerpb.ChangeRecordRequest{
			Record:  &peerpb.Record{Database: "db", Era: d.era, Deployment: d.id},
			Leaving: []string{"none"},
		})
		if err != nil {
			return // the operator gives up: the era may have been given
		}
		p.byHand.Raised++
	}
	p.step()
	d.endSeals(p.world)
}

// endSeals ends the seals of a deployment by hand, which any of its members can do.
func (d *deployment) endSeals(w *world) {
	for v, l := range d.logs {
		for _, n := range d.nodes {
			if by := l.state().sealed; by != "" && n.up {
				l.entries = append(l.entries, entry{unseal: by})
				w.byHand.Ended++
				d.elect(w, v)
			}
		}
	}
}

// mayClaim asks the masters whether the seals of a promotion have held, before it is claimed
// that they have.
func (s *slave) mayClaim(p *proc) bool {
	of := s.promotion
	if p.chance(0.5) && of.sealer == p.start {
		p.leaveFounder(p.node)
	}
	if !p.rules.has(noQuestion) {
		switch held, known := s.sealsHeld(p); {
		case !held:
			p.byHand.Found++
			s.unfenced(p)
			return false
		case !known && of.sealer != p.start:
			return false // only the process that has sealed them goes on
		}
	}
	p.step()
	of.claiming = true
	return true
}

// sealsHeld reports whether no seal is known to have ended, and whether all have answered.
func (s *slave) sealsHeld(p *proc) (held, known bool) {
	of, known := s.promotion, true
	d := p.ofEra(of.era)
	for v := range vBuckets {
		answered := false
		for _, n := range d.nodes {
			index, err := call(p, n, patience, func(q *proc) (int, error) {
				if q.process() == nil || q.process().deployment != d {
					return 0, errUnserved
				}
				return q.process().confirmSeal(q, v, of.id)
			})
			if err == nil && index != of.seals[v] {
				return false, true
			}
			if answered = err == nil; answered {
				break
			}
		}
		known = known && answered
	}
	return true, known
}

// confirmSeal returns the index of a promotion's seal. Any member knows it after an entry of its
// own; one that has ended is made again by the owner, at another index.
func (m *master) confirmSeal(p *proc, v int, promotion string) (int, error) {
	p.step()
	if s := m.logs[v].state(); s.sealed == promotion {
		return s.closed, nil
	}
	return m.seal(p, v, promotion, false)
}

// unfenced gives up a promotion whose seals have not held, unless its era was given meanwhile.
func (s *slave) unfenced(p *proc) {
	of := s.promotion
	if of.claiming && !p.rules.has(noWithdrawal) {
		given, err := s.withdraw(p)
		switch {
		case err != nil:
			return // it is tried again
		case given:
			p.byHand.Given++
			of.decided = true
			p.step()
			s.fork(p)
			return
		}
		p.byHand.Withdrawn++
	}
	s.giveUp(p)
}

// withdraw takes the founder out of the record, so that its claim does not fit any more, and
// reports whether the era was given before.
func (s *slave) withdraw(p *proc) (given bool, err error) {
	of := s.promotion
	r, _, err := p.getRecord()
	if err != nil {
		return false, err
	}
	if r.GetEra() != of.era || r.GetVersion() != of.version {
		return r.GetDeployment() == of.id, nil
	}
	_, err = p.changeRecord(&peerpb.ChangeRecordRequest{
		Record:  &peerpb.Record{Database: "db", Era: r.GetEra(), Deployment: r.GetDeployment()},
		Leaving: []string{s.disk},
	})
	return false, err
}

// stored is a copy of what the registry has stored at the end of a run, which nothing else changes.
type stored map[string][]byte

func (s stored) Read(_ context.Context, key []byte) ([]byte, error)  { return s[string(key)], nil }
func (s stored) Each(context.Context, func(key, value []byte)) error { return nil }

func (s stored) Swap(_ context.Context, key, _, next []byte) (bool, error) {
	s[string(key)] = next
	return true, nil
}

// lookAtRecord looks whether the last era that was given has masters, or a founder that goes on:
// a promotion that was given up must never be given.
func (w *world) lookAtRecord() {
	r, _, err := record.New(record.Options{Log: stored(maps.Clone(w.registry.values))}).Get(context.Background(), "db")
	if err != nil || r == nil {
		return
	}
	for _, d := range w.deployments {
		if d.id == r.GetDeployment() {
			return
		}
	}
	for _, n := range w.slaves {
		if of := n.slave.promotion; of != nil && of.id == r.GetDeployment() {
			return
		}
	}
	w.wrong = "an era was given to a promotion that was given up"
}
