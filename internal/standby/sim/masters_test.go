package sim

import (
	"context"
	"errors"
	"fmt"
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

// entry is an entry of a log.
type entry struct {
	// value is what a put writes, request its id.
	value, request int
	put            bool
	// set is the standing set from here on; nil for no change.
	set *set
	// seal is the promotion that seals the log, unseal the one whose seal ends.
	seal, unseal string
}

// set is a standing set.
type set struct {
	disk     string // one node at most; "" for none
	address  string
	phase    standby.Phase
	fallback bool
}

// end is a history that a promotion has ended.
type end struct {
	history string
	at      int
}

// deployment is some masters of one era. Its logs are as package lease makes them: one
// owner at a time has entries appended, others are fenced.
type deployment struct {
	era     uint64
	id      string
	history string
	lineage [vBuckets][]end
	nodes   []*node
	logs    [vBuckets]*log
	// claimed reports whether the record's lease has fenced the masters before, not a seal.
	claimed bool
	// answered reports whether a client was answered.
	answered bool
}

type log struct {
	entries []entry
	// states are those after each of the first entries.
	states []state
	owner  *node
	epoch  int
	// began is the index of the owner's BEGIN.
	began int
}

// state is what a prefix of a log amounts to.
type state struct {
	value  int
	newest int // the index of the newest change
	set    set
	sealed string
	closed int // the index of the seal
	listed int // the index of the entry that has made the set
}

func (l *log) at(n int) state {
	if n == 0 {
		return state{}
	}
	for i := len(l.states); i < n; i++ {
		var s state
		if i > 0 {
			s = l.states[i-1]
		}
		l.states = append(l.states, s.after(l.entries[i], i+1))
	}
	return l.states[n-1]
}

// after returns the state after one more entry.
func (s state) after(e entry, index int) state {
	switch {
	case e.put:
		s.value, s.newest = e.value, index
	case e.set != nil:
		s.set, s.listed = *e.set, index
	case e.seal != "" && s.sealed == "":
		s.sealed, s.closed = e.seal, index
	case e.unseal != "" && e.unseal == s.sealed:
		s.sealed = ""
	}
	return s
}

func (l *log) state() state { return l.at(len(l.entries)) }

// closed reports whether a log is sealed for its owner.
func (l *log) closed(w *world) bool {
	s := l.state()
	return s.sealed != "" && !(w.rules.has(beginBehindSeal) && l.began > s.closed)
}

// master is a process of a deployment, in memory.
type master struct {
	*deployment
	start int
	// until is when the record's lease ends.
	until time.Duration
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
				m.until = max(m.until, began+length)
				p.reached.Leases++
			case a.record.GetEra() > m.era || a.record.GetDeployment() != m.id:
				m.superseded = a.record.GetEra() > m.era
			}
		}
		p.sleep(lasting/4 - p.upTo(lasting/8))
	}
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
