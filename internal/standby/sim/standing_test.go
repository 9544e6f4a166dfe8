package sim

import (
	"fmt"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/standby"
)

// ackTimeout is how long a listed node may be silent.
const ackTimeout = 100 * ms

// tend changes the standing set of a log step by step.
func (m *master) tend(p *proc, v int) {
	if !m.owns(p, v) {
		return
	}
	s := m.logs[v].at(m.applied[v])
	if s.sealed != "" {
		return
	}
	silent := func(of string) bool {
		seat := m.seats[v][of]
		return seat == nil || p.now-seat.heard > ackTimeout
	}
	list := func(to set) bool { return m.appendTo(p, v, just(entry{set: &to})) > 0 }
	switch {
	case s.set.disk == "":
		for _, name := range sorted(m.seats[v]) {
			if seat := m.seats[v][name]; !silent(name) {
				list(set{disk: seat.disk, address: seat.address, phase: standby.Coming})
				return
			}
		}
		if p.chaos.fallback && !s.set.fallback {
			list(set{fallback: true})
		}
	case s.set.phase == standby.Coming && m.confirmed(p, v, s.set) >= s.listed:
		s.set.phase = standby.Standing
		list(s.set)
	case s.set.phase == standby.Leaving:
		m.leave(p, v, s.set)
	case silent(s.set.disk) && p.chance(0.1):
		s.set.phase = standby.Leaving
		if p.rules.has(logBeforeRecord) {
			if !list(set{fallback: p.chaos.fallback}) {
				return
			}
			m.leaveRecord(p, s.set)
			return
		}
		list(s.set)
	}
}

// leave takes a node out of the record, and then out of the log.
func (m *master) leave(p *proc, v int, s set) {
	if m.leaveRecord(p, s) {
		m.appendTo(p, v, just(entry{set: &set{fallback: p.chaos.fallback}}))
		p.reached.Left++
	}
}

func (m *master) leaveRecord(p *proc, s set) bool {
	_, err := p.changeRecord(&peerpb.ChangeRecordRequest{
		Record:  &peerpb.Record{Database: "db", Era: m.era, Deployment: m.id},
		Leaving: []string{s.disk},
	})
	return err == nil
}

// enter enters a node that stands in all logs into the record, as the owner of the first
// log.
func (m *master) enter(p *proc) {
	if !m.owns(p, 0) {
		return
	}
	s := m.logs[0].at(m.applied[0]).set
	if s.phase != standby.Standing {
		return
	}
	r, _, err := p.getRecord()
	if err != nil || r == nil || r.GetEra() != m.era || r.GetDeployment() != m.id || len(r.GetStandbys()) > 0 && r.GetStandbys()[0].GetDisk() == s.disk {
		return
	}
	for v := range vBuckets {
		if v > 0 && p.rules.has(firstLogSpeaks) {
			break
		}
		stands, err := call(p, m.logs[v].owner, patience, func(q *proc) (bool, error) {
			o := q.process()
			if o.deployment != m.deployment {
				return false, errUnserved
			}
			if q.rules.has(staleReading) { // as a member that is behind would answer
				return o.logs[v].at(max(0, o.applied[v]-q.rng.IntN(50))).set == s, nil
			}
			q.step()
			return o.owns(q, v) && o.logs[v].state().set == s, nil
		})
		if err != nil || !stands {
			return
		}
	}
	p.step()
	if p.chance(p.chaos.linger) {
		p.sleep(p.upTo(lasting))
	}
	p.entered = p.now
	_, err = p.changeRecord(&peerpb.ChangeRecordRequest{Expected: r.GetVersion(), Record: &peerpb.Record{
		Database: "db", Era: m.era, Deployment: m.id, LeaseMillis: uint64(lasting / ms),
		Standbys: []*peerpb.StandbyNode{{Disk: s.disk, Address: s.address}},
	}})
	if err == nil {
		p.reached.Entered++
	}
}

// seal seals a log for a promotion, or ends that, and returns the seal's index.
func (m *master) seal(p *proc, v int, promotion string, end bool) (int, error) {
	if !m.owns(p, v) {
		return 0, errUnserved
	}
	l := m.logs[v]
	switch s := l.state(); {
	case end && s.sealed != promotion:
		return 0, nil
	case end:
		return m.appendTo(p, v, just(entry{unseal: promotion})), nil
	case s.sealed == promotion:
		return s.closed, nil
	case s.sealed != "":
		return 0, fmt.Errorf("sealed for %s", s.sealed)
	}
	if index := m.appendTo(p, v, just(entry{seal: promotion})); index > 0 {
		return index, nil
	}
	return 0, errUnserved
}
