package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/internal/discovery/record"
	"github.com/dkvdb/dkv/internal/standby"
)

// lasting is how long leases last.
const lasting = 200 * ms

// The nodes of a deployment, and its logs, one for each vBucket.
const vBuckets = 2

// master is a process of a deployment, in memory.
type master struct {
	*deployment
	start int
	// until is when the record's lease ends, and opened the epoch of each log that was looked at.
	until  time.Duration
	opened [vBuckets]int
	// seats is what slaves have confirmed, by disk (by address if disks do not count).
	seats [vBuckets]map[string]*seat
	// epoch is the last one that this node has owned, applied what it has applied.
	epoch, applied [vBuckets]int
	superseded     bool
}

type seat struct {
	disk, address string
	synced        int
	heard         time.Duration
}

// found makes some nodes the masters of a new deployment.
func (w *world) found(d *deployment, nodes ...*node) {
	d.nodes = nodes
	w.deployments = append(w.deployments, d)
	for _, n := range nodes {
		n.master = &master{deployment: d}
	}
	for v := range d.logs {
		d.elect(w, v)
	}
}

// elect gives a log another owner, which has applied everything before.
func (d *deployment) elect(w *world, v int) {
	l := d.logs[v]
	alive := slices.DeleteFunc(slices.Clone(d.nodes), func(n *node) bool { return !n.up })
	if l.state().sealed != "" && !w.rules.has(beginBehindSeal) || len(alive) == 0 {
		return // no BEGIN takes effect
	}
	l.entries = append(l.entries, entry{})
	l.owner, l.epoch, l.began = alive[w.rng.IntN(len(alive))], l.epoch+1, len(l.entries)
	m := l.owner.process()
	m.epoch[v], m.applied[v] = l.epoch, len(l.entries)
	if w.rules.has(waitForHeard) {
		m.seats[v] = make(map[string]*seat) // it has heard of none as the owner
	}
	w.reached.Owners++
}

// process is the master's memory, which is empty after a crash.
func (n *node) process() *master {
	if n.master == nil {
		return nil
	}
	if n.master.start != n.start {
		n.master = &master{deployment: n.master.deployment, start: n.start, superseded: n.master.superseded}
		for v := range n.master.seats {
			n.master.seats[v] = make(map[string]*seat)
		}
	}
	return n.master
}

// bootMaster starts what a master does.
func (n *node) bootMaster() {
	m := n.process()
	n.spawn(func(p *proc) { m.keep(p) })
	for v := range vBuckets {
		n.spawn(func(p *proc) {
			for {
				m.applied[v] = max(m.applied[v], len(m.logs[v].entries))
				m.tend(p, v)
				p.sleep(5*ms + p.upTo(5*ms))
			}
		})
	}
	n.spawn(func(p *proc) {
		for {
			p.sleep(10*ms + p.upTo(20*ms))
			m.enter(p)
		}
	})
}

// held reports whether the node has the lease of the record, which the owner of each log needs.
func (m *master) held(p *proc, v int) bool {
	if p.chaos.former && !p.rules.has(gainedAnswers) && m.opened[v] != m.epoch[v] {
		return false
	}
	return p.clock() < m.until || v > 0 && p.rules.has(firstLogsLease)
}

// keep renews the lease.
func (m *master) keep(p *proc) {
	for !m.superseded {
		type answer struct {
			record  *peerpb.Record
			granted bool
		}
		p.step()
		began := p.clock()
		p.step()
		out, err := p.registry.ask(p, patience, func(ctx context.Context, b *record.Book) (any, error) {
			r, granted, err := b.Renew(ctx, &peerpb.RenewRequest{Database: "db", Era: m.era, Deployment: m.id})
			return answer{r, granted}, err
		})
		if p.rules.has(leaseFromAnswer) {
			began = p.clock()
		}
		if a, _ := out.(answer); err == nil {
			switch {
			case a.record == nil:
				_, _ = p.changeRecord(&peerpb.ChangeRecordRequest{Record: &peerpb.Record{
					Database: "db", Era: m.era, Deployment: m.id, LeaseMillis: uint64(lasting / ms),
				}})
			case a.granted:
				length := lasting
				if p.rules.has(noDrift) {
					length = standby.Outlasts(lasting)
				}
				if !p.chaos.former || m.look(p, a.record) {
					m.until = max(m.until, began+length)
				}
				p.reached.Leases++
			case a.record.GetEra() > m.era || a.record.GetDeployment() != m.id:
				m.superseded = a.record.GetEra() > m.era
			}
		}
		if pause := lasting/4 - p.upTo(lasting/8); p.chaos.former {
			p.until(pause, func() bool { return m.gained(p) })
		} else {
			p.sleep(pause)
		}
	}
}

// gained reports whether the node owns a log that it has not looked at.
func (m *master) gained(p *proc) bool {
	for v := range vBuckets {
		if m.owns(p, v) && m.opened[v] != m.epoch[v] && !p.rules.has(gainedAnswers) {
			return true
		}
	}
	return false
}

// look takes the standbys out of the record that do not stand in the logs that the node owns, and
// notes which logs it has looked at. It reports whether that was done.
func (m *master) look(p *proc, r *peerpb.Record) bool {
	for v := range vBuckets {
		p.step()
		epoch := m.epoch[v]
		if !m.owns(p, v) {
			continue
		}
		s := m.logs[v].state().set
		for _, n := range r.GetStandbys() {
			stands := n.GetDisk() == s.disk && s.phase == standby.Standing
			if !stands && !m.leaveRecord(p, set{disk: n.GetDisk()}) {
				return false
			}
		}
		m.opened[v] = epoch
	}
	return true
}

// goBack has a log get back the standing set that it had before the present one came, as with older
// copies of its members' folders, and another owner. (What was written since is not lost here: that
// is no matter of the record.) It has no effect while the record may change: a majority is stopped
// for longer than that takes.
func (d *deployment) goBack(w *world, v int) {
	l := d.logs[v]
	if s := l.state(); w.now-w.entered < 500*ms || s.set.phase != standby.Standing {
		return
	}
	for i := len(l.entries) - 1; i >= 0; i-- {
		if e := &l.entries[i]; e.set != nil {
			if e.set.disk == "" {
				break
			}
			*e = entry{}
		}
	}
	l.states = nil
	w.wentBack++
	d.elect(w, v)
}

// owns reports whether the node owns a log in its present epoch.
func (m *master) owns(p *proc, v int) bool {
	return m.logs[v].owner == p.node && m.logs[v].epoch == m.epoch[v]
}

var (
	errNoLease  = errors.New("no lease")
	errSealed   = errors.New("sealed")
	errUnserved = errors.New("not the owner")
)

// appendTo appends an entry to a log in the node's epoch, as it is to be applied there; the
// index is 0 if it was fenced.
func (m *master) appendTo(p *proc, v int, apply func(*log) entry) int {
	epoch := m.epoch[v]
	if !m.owns(p, v) {
		return 0
	}
	p.step()
	l := m.logs[v]
	e := apply(l)
	if l.epoch != epoch || l.closed(p.world) && e.unseal == "" {
		p.reached.FencedEntries++
		return 0
	}
	l.entries = append(l.entries, e)
	index := len(l.entries)
	m.applied[v] = index
	p.step()
	return index
}

func just(e entry) func(*log) entry { return func(*log) entry { return e } }

// confirmed is up to which index a node of the standing set has synced everything.
func (m *master) confirmed(p *proc, v int, of set) int {
	if p.rules.has(byAddress) {
		best := 0
		for _, name := range sorted(m.seats[v]) {
			if s := m.seats[v][name]; s.address == of.address {
				best = max(best, s.synced)
			}
		}
		return best
	}
	if s := m.seats[v][of.disk]; s != nil {
		return s.synced
	}
	return 0
}

func sorted(of map[string]*seat) (names []string) {
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// await waits until what was applied up to an index may be shown.
func (m *master) await(p *proc, v, target int) error {
	ok := func() bool {
		s := m.logs[v].at(m.applied[v])
		switch {
		case p.rules.has(waitForHeard) && s.set.disk != "":
			for _, name := range sorted(m.seats[v]) {
				if m.seats[v][name].synced < target {
					return false
				}
			}
			return true
		case s.set.disk == "":
			return s.set.fallback
		}
		return m.confirmed(p, v, s.set) >= target
	}
	if !p.until(100*ms, ok) {
		return errors.New("not confirmed")
	}
	p.step()
	if !p.rules.has(noSecondLook) && !m.held(p, v) {
		p.reached.Lapsed++
		return errNoLease
	}
	m.answer(p)
	return nil
}

// answer notes that a client is answered, which former masters may do no more once those
// that have claimed their era do. (Behind a seal they may: what it has below it stays.)
func (m *master) answer(p *proc) {
	m.answered = true
	for _, d := range p.deployments {
		if d.era > m.era && d.claimed && d.answered {
			p.wrong = "two eras have answered at once"
		}
	}
}

// read answers a linearizable read.
func (m *master) read(p *proc, v int) (int, error) {
	if !m.held(p, v) {
		return 0, errNoLease
	}
	p.sleep(p.upTo(ms))
	if !m.owns(p, v) {
		return 0, errUnserved
	}
	s := m.logs[v].state()
	if m.logs[v].closed(p.world) && !p.rules.has(readBehindSeal) {
		return 0, errSealed
	}
	p.step()
	if p.rules.has(readsDoNotWait) {
		if !m.held(p, v) {
			return 0, errNoLease
		}
		m.answer(p)
		return s.value, nil
	}
	return s.value, m.await(p, v, s.newest)
}

// put answers a put, probe a mutation that changes nothing and returns the value.
func (m *master) put(p *proc, v int, e entry) error {
	if !m.held(p, v) {
		return errNoLease
	}
	p.step()
	repeated := false
	index := m.appendTo(p, v, func(l *log) entry {
		repeated = slices.ContainsFunc(l.entries, func(o entry) bool { return o.put && o.request == e.request })
		if repeated {
			return entry{}
		}
		return e
	})
	switch {
	case index == 0:
		return errUnserved
	case !repeated:
		return m.await(p, v, index)
	}
	p.reached.Repeats++
	if p.rules.has(repeatsDoNotWait) {
		return nil
	}
	return m.await(p, v, m.logs[v].at(index).newest)
}

func (m *master) probe(p *proc, v int) (int, error) {
	if !m.held(p, v) {
		return 0, errNoLease
	}
	p.step()
	index := m.appendTo(p, v, just(entry{}))
	if index == 0 {
		return 0, errUnserved
	}
	s := m.logs[v].at(index)
	if p.rules.has(probesDoNotWait) {
		return s.value, nil
	}
	return s.value, m.await(p, v, s.newest)
}
