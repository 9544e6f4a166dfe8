package dkv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// learner keeps the topology up to date: it asks nodes of those that it knows of what
// they serve, again and again, and puts the answers together. Each node is asked by a
// goroutine of its own, so that one that hangs delays no other.
type learner struct {
	client *Client
	// wake makes all nodes be asked now, hire others be asked in the place of some.
	wake, hire signal

	mu     sync.Mutex
	probes map[string]*probe // by address
	// known are the nodes to choose from, by address, as members and registries tell
	// of them, resting those that could not be reached.
	known           map[string]candidate
	resting         map[string]rest
	masters, slaves crew
	binding         *binding
	// foreign is the error of the node of another cluster that was met last, and when
	// that was; nil for none.
	foreign   error
	foreignAt time.Time
	// listed is when the members were last asked for.
	listed time.Time
	// registry is the last error of the registries; nil after an answer.
	registry error
	// poked is when a registry's news last made the nodes be asked, pokeDue whether
	// they are to be asked again then.
	poked   time.Time
	pokeDue bool
}

// probe is what is known of one node.
type probe struct {
	node   *node
	cancel context.CancelFunc
	report *report // the last answer; nil where there is none
	err    error   // of the last attempt
	// silent counts attempts in a row that ended without any answer, failed those
	// that did not succeed.
	silent, failed int
	slave          bool
	answered       bool // at least once
}

const (
	// refresh is how often a node is asked while nothing fails.
	refresh = 5 * time.Second
	// probeTime is how long a node may take to answer.
	probeTime = time.Second
	// unsettled is how soon nodes are asked again when a leader is missing; the pause
	// doubles up to maxSilence, as it does for a node that fails.
	unsettled  = 50 * time.Millisecond
	maxSilence = 2 * time.Second
	// While requests fail, or wait, a node is asked at least leastGap after the last
	// time; that grows like the pauses of calls. It begins again after calm without a
	// question.
	leastGap = 25 * time.Millisecond
	calm     = 2 * time.Second
	// maxSilent is how many questions in a row a node may leave open before the
	// calls that wait for it are cut off.
	maxSilent = 2
)

func newLearner(c *Client) *learner {
	return &learner{
		client:  c,
		probes:  make(map[string]*probe),
		known:   make(map[string]candidate),
		resting: make(map[string]rest),
		masters: crew{most: maxMasters},
		slaves:  crew{most: maxSlaves},
		binding: newBinding(c.opts.cluster),
	}
}

func (l *learner) begin() {
	l.client.tasks.Go(func() { l.recruit(l.client.ctx) })
	if l.client.target.discovery {
		l.client.tasks.Go(l.followRegistry)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, addr := range l.client.target.addrs {
		l.add(addr, false)
	}
}

// add begins to ask the node at an address. The caller holds l.mu.
func (l *learner) add(addr string, slave bool) *probe {
	if p := l.probes[addr]; p != nil || l.client.ctx.Err() != nil {
		return p
	}
	n, err := l.client.node(addr)
	if err != nil {
		return nil // closed
	}
	ctx, cancel := context.WithCancel(l.client.ctx)
	p := &probe{node: n, cancel: cancel, slave: slave}
	l.probes[addr] = p
	l.client.tasks.Go(func() { l.watch(ctx, p) })
	return p
}

// watch asks one node until ctx ends.
func (l *learner) watch(ctx context.Context, p *probe) {
	pause, gap := unsettled, leastGap
	var tls suspicion
	for {
		woken := l.wake.wait() // what fires during the question counts
		asked := time.Now()
		r, err := l.ask(ctx, p.node)
		tls.add(err)
		if ctx.Err() != nil {
			return
		}
		err = l.take(p, r, err)
		if err == nil && r.master() {
			l.listFrom(ctx, p.node)
		}
		wait := refresh
		if err != nil || !l.settled() {
			wait, pause = pause, min(2*pause, maxSilence)
		} else {
			pause = unsettled
		}
		if !sleepOr(ctx, jitter(wait), woken) {
			return
		}
		if gap = nextPause(gap); time.Since(asked) >= calm {
			gap = leastGap
		}
		if !sleepOr(ctx, max(jitter(gap)-time.Since(asked), jitter(leastGap)), nil) {
			return
		}
	}
}

// poke makes the nodes be asked soon, since a request has failed.
func (l *learner) poke() {
	if l != nil {
		l.wake.fire()
	}
}

// newsGap is the least time between two times at which a registry's news make the nodes
// be asked: many rows may change.
const newsGap = 250 * time.Millisecond

// pokeLater makes the nodes be asked, soon: a registry has news.
func (l *learner) pokeLater() {
	l.mu.Lock()
	l.pokeDue = true
	l.mu.Unlock()
	l.hire.fire()
}

// pokeIfDue makes the nodes be asked if it is time to. It returns how long it is till
// then. The caller holds l.mu.
func (l *learner) pokeIfDue(now time.Time) time.Duration {
	if !l.pokeDue {
		return lastRest
	}
	if wait := newsGap - now.Sub(l.poked); wait > 0 {
		return wait
	}
	l.poked, l.pokeDue = now, false
	l.wake.fire()
	return lastRest
}

func (l *learner) settled() bool {
	t := l.client.topology.Load()
	return t != nil && t.led()
}

// take notes the result of a question. It returns why the node is not used; nil if it
// is.
func (l *learner) take(p *probe, r *report, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probes[p.node.addr] != p {
		return err // it is not a member any more
	}
	if err == nil {
		if err = l.binding.check(r); err != nil {
			r = nil
			l.met(err)
		} else if l.binding.bind(r) {
			l.client.opts.log.Info("bound to a cluster", "cluster", l.binding.name(), "address", p.node.addr)
		}
	}
	if (p.err == nil) != (err == nil) {
		l.logChange(p, err)
	}
	p.report, p.err = r, err
	if err == nil {
		l.hear(r)
	}
	l.forget()
	l.rebuild()
	if p.silent++; !errors.Is(err, context.DeadlineExceeded) {
		p.silent = 0
	}
	if p.silent >= maxSilent && !l.needed(p.node) {
		p.silent = 0
		l.client.renew(p.node)
	}
	l.settle(p, err)
	return err
}

// needed tells whether a node has to be waited for, however long it is silent: it
// leads as far as is known, and may just be slow. What waits for another one is
// better sent elsewhere.
func (l *learner) needed(n *node) bool {
	t := l.client.topology.Load()
	return t == nil || !t.led() || slices.ContainsFunc(t.vBuckets, func(v vBucket) bool { return v.leader == n })
}

// stranger returns the error of a node of another cluster, if one answers and no node
// of ours leads.
func (l *learner) stranger() error {
	if l == nil || l.settled() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.foreignAt) > lives {
		return nil
	}
	return l.foreign
}

// met notes a node of another cluster.
func (l *learner) met(err error) { l.foreign, l.foreignAt = err, time.Now() }

func (l *learner) logChange(p *probe, err error) {
	if errors.Is(err, ErrOtherCluster) {
		l.client.opts.log.Error("node of another cluster", "address", p.node.addr, "error", err)
	} else if err != nil {
		l.client.opts.log.Warn("node does not answer", "address", p.node.addr, "error", err)
	} else {
		l.client.opts.log.Info("node answers again", "address", p.node.addr)
	}
}

// hear begins to ask the leaders that a node tells of. The caller holds l.mu.
func (l *learner) hear(r *report) {
	for i := range r.parts {
		addr := r.parts[i].leader
		if addr != "" && addr != r.address && !l.isKnown(addr) && l.usable(addr) && l.asked(false) < maxMasters {
			l.add(addr, false)
		}
	}
}

// isKnown tells whether a node that answers has this address.
func (l *learner) isKnown(addr string) bool {
	for _, p := range l.probes {
		if p.report != nil && p.report.address == addr {
			return true
		}
	}
	return false
}

func (l *learner) usable(addr string) bool {
	return dialable(addr) && l.client.opts.mayDial(addr)
}

// forget lets go of the nodes that are no members (any more), are not in the target
// and are not told of as leaders. The caller holds l.mu.
func (l *learner) forget() {
	if len(l.known) == 0 {
		return // the members are not known
	}
	var gone []*probe
	for addr, p := range l.probes {
		if _, member := l.known[addr]; !member && !l.isSeed(addr) && !l.toldToLead(p) {
			gone = append(gone, p)
		}
	}
	l.drop(gone...)
}

// drop has nodes not be asked any more, and closes their connections.
func (l *learner) drop(gone ...*probe) {
	for _, p := range gone {
		p.cancel()
		delete(l.probes, p.node.addr)
	}
	if len(gone) > 0 {
		l.client.retain(l.addresses())
	}
}

// toldToLead tells whether another node takes this one for a leader.
func (l *learner) toldToLead(of *probe) bool {
	for _, p := range l.probes {
		if p == of || p.report == nil || p.err != nil {
			continue
		}
		for i := range p.report.parts {
			if p.report.parts[i].leader == of.node.addr {
				return true
			}
		}
	}
	return false
}

func (l *learner) isSeed(addr string) bool { return slices.Contains(l.client.target.addrs, addr) }

func (l *learner) addresses() []string {
	out := slices.Clone(l.client.target.addrs)
	for addr := range l.probes {
		out = append(out, addr)
	}
	return out
}

// rebuild makes the topology of the reports. Where nobody answers the last one
// stays. The caller holds l.mu.
func (l *learner) rebuild() {
	c := l.client
	reports := make([]*report, 0, len(l.probes))
	for addr, p := range l.probes {
		if p.report == nil || p.err != nil {
			continue
		}
		r := *p.report
		if c, known := l.known[r.address]; known {
			r.dc = c.dc
		} else if c, known := l.known[addr]; known {
			r.dc = c.dc
		}
		reports = append(reports, &r)
	}
	t := build(reports, l.binding.names, c.opts.dc, func(addr string) *node {
		if p := l.probes[addr]; p != nil {
			return p.node
		}
		return nil
	})
	if t != nil {
		for i := range t.vBuckets {
			t.vBuckets[i].cluster = l.binding.tag(t.vBuckets[i].name)
		}
	}
	if old := c.topology.Load(); t == nil || old != nil && old.equal(t) {
		if old == nil {
			c.changed.fire() // the reason why it is not known may be new
		}
		return
	}
	c.topology.Store(t)
	c.changed.fire()
	c.opts.log.Debug("topology", "leaders", t.leaders())
}

// lasting is the error that keeps the topology from being known, where time will
// not mend it: every address has the same sort of it.
func (l *learner) lasting() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.registry != nil && (lasting(l.registry) || errors.Is(l.registry, ErrInvalid)) && len(l.probes) == 0 {
		return l.registry
	}
	var last error
	for _, p := range l.probes {
		if p.err == nil || !lasting(p.err) {
			return nil
		}
		last = p.err
	}
	return last
}

// unknown is the error of who waited for the topology in vain.
func (l *learner) unknown(cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var texts []string
	if l.registry != nil {
		texts = append(texts, l.registry.Error())
	}
	for _, p := range l.probes {
		if p.err != nil {
			texts = append(texts, p.err.Error())
		}
	}
	if l.foreign != nil {
		texts = append(texts, l.foreign.Error())
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	if len(texts) == 0 {
		texts = append(texts, "no answer yet")
	}
	const most = 5
	if len(texts) > most {
		texts = append(texts[:most], "...")
	}
	return errorf(ErrUnavailable, "nobody of %s tells who serves the database: %w; %s",
		strings.Join(l.client.target.addrs, ","), cause, strings.Join(texts, "; "))
}

// wrongDatabase is the error of a node that serves something else.
func wrongDatabase(addr, got, want string) error {
	return &Error{Kind: ErrPrecondition, Address: addr, Err: fmt.Errorf("node %s serves database %q, not %q", addr, got, want)}
}

// jitter spreads what several do at the same time: d, give or take a quarter.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

// sleepOr waits for d, or less where woken is closed, and tells whether ctx is
// alive then.
func sleepOr(ctx context.Context, d time.Duration, woken <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-woken:
		return true
	case <-ctx.Done():
		return false
	}
}

// isUnimplemented tells whether the other end does not know the method.
func isUnimplemented(err error) bool { return errors.Is(err, ErrUnimplemented) }
