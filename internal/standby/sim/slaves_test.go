package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
)

// slave is a slave's disk, and what it has in memory of its present start.
type slave struct {
	disk   string
	copies [vBuckets]copyOf
	// sealed is the promotion for which it follows nothing any more, on disk.
	sealed string
	// promotion is what it has written of its own promotion; nil for none.
	promotion *promotion
	// ordered is a promotion that an operator wants.
	ordered bool
	// stalled is until when it follows nothing, while it does everything else.
	stalled time.Duration
	start   int
}

// copyOf is the copy of a log. What is not synced is lost in a crash.
type copyOf struct {
	history string
	lineage []end
	entries []entry
	synced  int
}

// promotion is what a founder keeps of a promotion.
type promotion struct {
	id      string
	era     uint64
	fenced  bool
	version uint64
	decided bool
	// seals are the indexes of its seals in the masters' logs, sealer the start that has made
	// them. A claim that is claiming may have been sent.
	seals    [vBuckets]int
	sealer   int
	claiming bool
	// with is the other node of a set, equal whether both have the same state, and abandoned
	// whether the promotion is given up.
	with             *node
	equal, abandoned bool
	// ends is how far the copies were when the slave was sealed.
	ends [vBuckets]int
}

func (c *copyOf) descends(history string) bool {
	return slices.ContainsFunc(c.lineage, func(e end) bool { return e.history == history })
}

// bootSlave starts what a slave does.
func (n *node) bootSlave() {
	s := n.slave
	if s.start != 0 {
		for v := range s.copies {
			c := &s.copies[v]
			c.entries = c.entries[:c.synced:c.synced]
		}
	}
	s.start = n.start
	for v := range vBuckets {
		n.spawn(func(p *proc) {
			for {
				p.sleep(3*ms + p.upTo(3*ms))
				s.follow(p, v)
			}
		})
	}
	n.spawn(func(p *proc) {
		for {
			p.sleep(2*ms + p.upTo(6*ms))
			s.promote(p)
		}
	})
}

// stretch is what a master sends a slave.
type stretch struct {
	history string
	era     uint64
	lineage []end
	from    int
	entries []entry
}

// follow gets new entries of a log, syncs them and confirms that.
func (s *slave) follow(p *proc, v int) {
	d := p.deployments[p.rng.IntN(len(p.deployments))]
	owner := d.logs[v].owner
	if s.sealed != "" || p.now < s.stalled || owner == p.node || p.node.master != nil {
		return
	}
	c := &s.copies[v]
	from := len(c.entries)
	got, err := call(p, owner, patience, func(q *proc) (stretch, error) { return q.process().stretch(q, v, from) })
	if err != nil {
		return
	}
	if p.rules.has(applyBehindSeal) {
		if s.sealed != "" {
			return
		}
		p.step()
	}
	if !s.apply(p, v, got, from) {
		return
	}
	if p.rules.has(confirmReceived) {
		s.confirm(p, v, owner, len(c.entries))
	}
	p.sleep(p.upTo(p.chaos.syncing)) // it is being synced
	if s.sealed != "" && !p.rules.has(applyBehindSeal) {
		return
	}
	if c.history == got.history {
		c.synced = len(c.entries)
		s.confirm(p, v, owner, c.synced)
	}
}

// apply adds a stretch to a copy, unless it is sealed or does not fit.
func (s *slave) apply(p *proc, v int, got stretch, from int) bool {
	c := &s.copies[v]
	if s.sealed != "" && !p.rules.has(applyBehindSeal) || c.descends(got.history) || len(c.entries) != from {
		return false
	}
	if c.history != got.history {
		i := slices.IndexFunc(got.lineage, func(e end) bool { return e.history == c.history })
		switch {
		case c.history == "": // an empty disk
		case i < 0:
			return false
		case from > got.lineage[i].at && !p.rules.has(keepAboveEnd):
			p.reached.SetAside++
			*c = copyOf{}
			return false
		default:
			p.reached.Crossed++
		}
		c.history, c.lineage = got.history, slices.Clone(got.lineage)
	}
	c.entries = append(c.entries[:from:from], got.entries...)
	return true
}

// confirm tells the owner of a log how far the slave is.
func (s *slave) confirm(p *proc, v int, owner *node, synced int) {
	disk, address, history := s.disk, p.name, s.copies[v].history
	p.send(p.node, owner, func() {
		m := owner.process()
		if m == nil || m.deployment.history != history {
			return
		}
		at := m.seats[v][disk]
		if at == nil {
			at = &seat{disk: disk, address: address}
			m.seats[v][disk] = at
		}
		at.synced, at.heard = max(at.synced, synced), owner.now
	})
}

// stretch returns the entries after a position of a slave.
func (m *master) stretch(p *proc, v int, from int) (stretch, error) {
	if !m.owns(p, v) {
		return stretch{}, errUnserved
	}
	l := m.logs[v]
	out := stretch{history: m.history, era: m.era, lineage: m.lineage[v], from: from}
	if from > len(l.entries) {
		return out, nil // it is above an end
	}
	to := min(len(l.entries), from+1+p.rng.IntN(8))
	out.entries = slices.Clone(l.entries[from:to])
	return out, nil
}

// promote goes on with a promotion, or begins one.
func (s *slave) promote(p *proc) {
	switch {
	case p.node.master != nil || s.copies[0].history == "" || s.copies[1].history != s.copies[0].history:
	case s.promotion != nil && s.promotion.decided:
		s.fork(p)
	case s.promotion == nil && s.sealed != "": // for a promotion of the other slave
	case s.promotion != nil && (s.sealed == "" || s.promotion.abandoned):
		s.giveUp(p) // a crash came before the seal
	case s.promotion != nil:
		s.decide(p)
	case s.ordered:
		s.ordered = false
		of := &promotion{fenced: true, era: p.eraOf(s.copies[0].history)}
		if p.chaos.sets {
			of.with = s.other(p)
		}
		s.begin(p, of)
	default:
		s.watch(p)
	}
}

func (w *world) eraOf(history string) uint64 {
	var era uint64
	if n, _ := fmt.Sscanf(history, "%d-", &era); n == 0 {
		return 0
	}
	return era
}

// watch begins a promotion when the record lets the slave claim the next era.
func (s *slave) watch(p *proc) {
	r, granted, err := p.getRecord()
	if err != nil || granted > 0 || r == nil {
		return
	}
	disk := s.disk
	if p.rules.has(byAddress) {
		disk = p.name
	}
	if !slices.ContainsFunc(r.GetStandbys(), func(n *peerpb.StandbyNode) bool {
		return n.GetDisk() == disk || p.rules.has(byAddress) && n.GetAddress() == disk
	}) || r.GetEra() != p.eraOf(s.copies[0].history) {
		return
	}
	s.begin(p, &promotion{era: r.GetEra(), version: r.GetVersion()})
}

// begin fences the masters if the record does not, and seals the slave.
func (s *slave) begin(p *proc, of *promotion) {
	of.id = fmt.Sprintf("%s.%d", p.name, p.seq)
	s.promotion = of
	p.step()
	if of.fenced && !s.fence(p) {
		s.giveUp(p)
		return
	}
	s.sealed, of.ends = of.id, [vBuckets]int{len(s.copies[0].entries), len(s.copies[1].entries)}
	p.step()
	s.decide(p)
}

// fence seals all logs, and comes up to the seals.
func (s *slave) fence(p *proc) bool {
	d, id := p.ofEra(s.promotion.era), s.promotion.id
	if r, _, err := p.getRecord(); err != nil || r == nil {
		return false
	} else {
		s.promotion.version = r.GetVersion()
	}
	for v := range vBuckets {
		index, err := call(p, d.logs[v].owner, patience, func(q *proc) (int, error) {
			if q.process() == nil || q.process().deployment != d {
				return 0, errUnserved
			}
			return q.process().seal(q, v, id, false)
		})
		if err != nil || index == 0 {
			return false
		}
		here := p.until(100*ms, func() bool { return len(s.copies[v].entries) >= index && s.copies[v].history == d.history })
		if !here && s.promotion.with == nil {
			return false // otherwise the other node may have it
		}
		s.promotion.seals[v], s.promotion.sealer = index, p.start
	}
	return true
}

func (w *world) ofEra(era uint64) *deployment {
	for _, d := range w.deployments {
		if d.era == era {
			return d
		}
	}
	return w.deployments[0]
}

// giveUp ends a promotion that is not decided: what it has sealed is unsealed.
func (s *slave) giveUp(p *proc) {
	of := s.promotion
	of.abandoned = true
	if of.with != nil {
		p.sets.GivenUp++
		for !s.release(p) {
			p.sleep(20 * ms)
		}
	}
	d := p.ofEra(of.era)
	for v := range vBuckets {
		for range 3 {
			_, err := call(p, d.logs[v].owner, patience, func(q *proc) (int, error) {
				if q.process() == nil || q.process().deployment != d {
					return 0, errUnserved
				}
				return q.process().seal(q, v, of.id, true)
			})
			if err == nil {
				break
			}
		}
	}
	s.sealed, s.promotion = "", nil
	p.reached.GivenUp++
}

// decide claims the next era.
func (s *slave) decide(p *proc) {
	of := s.promotion
	if of.with != nil && !of.equal && !s.equal(p) {
		return
	}
	for v := range s.copies {
		s.copies[v].synced = len(s.copies[v].entries)
	}
	disks := []string{s.disk}
	if p.rules.has(byAddress) {
		r, _, err := p.getRecord()
		if err != nil {
			return
		}
		for _, n := range r.GetStandbys() {
			if n.GetAddress() == p.name {
				disks = []string{n.GetDisk()}
			}
		}
	}
	if of.fenced && p.chaos.byHand > 0 && !s.mayClaim(p) {
		return
	}
	p.step()
	res, err := p.claim(&peerpb.ClaimRequest{
		Database: "db", Era: of.era, Version: of.version, Disks: disks, Promotion: of.id, History: s.nextHistory(), Fenced: of.fenced,
	})
	switch {
	case err != nil: // it is repeated
	case res.GetGiven():
		of.decided = true
		if p.rules.has(applyBehindSeal) {
			for v := range s.copies {
				s.copies[v].entries = s.copies[v].entries[:of.ends[v]:of.ends[v]]
			}
		}
		p.step()
		s.fork(p)
	case res.GetRetryMillis() == 0:
		s.giveUp(p)
	}
}

func (s *slave) nextHistory() string { return fmt.Sprintf("%d-%s", s.promotion.era+1, s.promotion.id) }

// fork makes the slave the masters of the next era.
func (s *slave) fork(p *proc) {
	of := s.promotion
	d := &deployment{era: of.era + 1, id: of.id, history: s.nextHistory(), claimed: !of.fenced}
	for v := range vBuckets {
		c := &s.copies[v]
		d.lineage[v] = append(slices.Clone(c.lineage), end{c.history, len(c.entries)})
		entries := slices.Clone(c.entries)
		for _, e := range p.ofEra(of.era).logs[v].entries[len(c.entries):] {
			if e.put {
				p.reached.Cut++
			}
		}
		if p.rules.has(forgetRequests) {
			for i := range entries {
				entries[i].request = 0
			}
		}
		// The log's own records are cleared.
		entries = append(entries, entry{unseal: (&log{entries: entries}).state().sealed}, entry{set: &set{fallback: p.chaos.fallback}})
		d.logs[v] = &log{entries: entries, owner: p.node}
	}
	var base [vBuckets][]entry
	for v := range s.copies {
		base[v] = s.copies[v].entries
	}
	p.found(d, p.node)
	p.node.boot = p.node.bootMaster
	if of.fenced {
		p.reached.Fenced++
	} else {
		p.reached.Claimed++
	}
	p.node.bootMaster()
	if of.with != nil {
		p.node.boot = func() {
			p.node.bootMaster()
			p.node.spawn(func(q *proc) { d.tell(q, of, base) })
		}
		p.node.spawn(func(q *proc) { d.tell(q, of, base) })
	}
}
