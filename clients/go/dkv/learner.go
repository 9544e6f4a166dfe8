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

// learner keeps the topology up to date: it asks each node that it knows of what
// the node serves, again and again, and puts the answers together. Each node is
// asked by a goroutine of its own, so that one that hangs delays nobody.
type learner struct {
	client *Client
	// wake makes all nodes be asked now.
	wake signal

	mu     sync.Mutex
	probes map[string]*probe // by address
	dcs    map[string]string // by address, as members and registries tell it
	// listed is when the members were last asked for.
	listed time.Time
	// registry is the last error of the registries; nil after an answer.
	registry error
}

// probe is what is known of one node.
type probe struct {
	node   *node
	cancel context.CancelFunc
	report *report // the last answer; nil where there is none
	err    error   // of the last attempt
	// silent counts attempts in a row that ended without any answer.
	silent int
}

const (
	// refresh is how often a node is asked while nothing fails.
	refresh = 5 * time.Second
	// probeTime is how long a node may take to answer.
	probeTime = time.Second
	// unsettled is how often nodes are asked while a leader is missing, and how
	// often at most where requests fail.
	unsettled = 50 * time.Millisecond
	// maxSilence is how often a node that fails is asked.
	maxSilence = 2 * time.Second
	// maxSilent is how many questions in a row a node may leave open before the
	// calls that wait for it are cut off.
	maxSilent = 2
)

func newLearner(c *Client) *learner {
	return &learner{client: c, probes: make(map[string]*probe), dcs: make(map[string]string)}
}

func (l *learner) begin() {
	if l.client.target.discovery {
		l.client.tasks.Go(l.followRegistry)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, addr := range l.client.target.addrs {
		l.add(addr)
	}
}

// add begins to ask the node at an address. The caller holds l.mu.
func (l *learner) add(addr string) *probe {
	if p := l.probes[addr]; p != nil || l.client.ctx.Err() != nil {
		return p
	}
	n, err := l.client.node(addr)
	if err != nil {
		return nil // closed
	}
	ctx, cancel := context.WithCancel(l.client.ctx)
	p := &probe{node: n, cancel: cancel}
	l.probes[addr] = p
	l.client.tasks.Go(func() { l.watch(ctx, p) })
	return p
}

// watch asks one node until ctx ends.
func (l *learner) watch(ctx context.Context, p *probe) {
	pause := unsettled
	var tls suspicion
	for {
		woken := l.wake.wait() // what fires during the question counts
		r, err := l.ask(ctx, p.node)
		tls.add(err)
		if ctx.Err() != nil {
			return
		}
		l.take(p, r, err)
		if err == nil && r.master() {
			l.listFrom(ctx, p.node)
		}
		wait := refresh
		switch {
		case err != nil:
			wait, pause = pause, min(2*pause, maxSilence)
		case !l.settled():
			wait, pause = unsettled, unsettled
		default:
			pause = unsettled
		}
		if !sleepOr(ctx, jitter(wait), woken) || !sleepOr(ctx, jitter(unsettled/2), nil) {
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

func (l *learner) settled() bool {
	t := l.client.topology.Load()
	return t != nil && t.led()
}

// take notes the result of a question.
func (l *learner) take(p *probe, r *report, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probes[p.node.addr] != p {
		return // it is not a member any more
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
}

// needed tells whether a node has to be waited for, however long it is silent: it
// leads as far as is known, and may just be slow. What waits for another one is
// better sent elsewhere.
func (l *learner) needed(n *node) bool {
	t := l.client.topology.Load()
	return t == nil || !t.led() || slices.ContainsFunc(t.vBuckets, func(v vBucket) bool { return v.leader == n })
}

func (l *learner) logChange(p *probe, err error) {
	if err != nil {
		l.client.opts.log.Warn("node does not answer", "address", p.node.addr, "error", err)
	} else {
		l.client.opts.log.Info("node answers again", "address", p.node.addr)
	}
}

// hear begins to ask the leaders that a node tells of. The caller holds l.mu.
func (l *learner) hear(r *report) {
	for i := range r.parts {
		addr := r.parts[i].leader
		if addr != "" && addr != r.address && !l.isKnown(addr) && l.usable(addr) {
			l.add(addr)
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

// members tells which nodes there are, in the data centres they are in.
func (l *learner) members(dcs map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dcs = dcs
	for addr := range dcs {
		if !l.isKnown(addr) && l.usable(addr) {
			l.add(addr)
		}
	}
	l.forget()
	l.rebuild()
}

// forget lets go of the nodes that are no members (any more), are not in the target
// and are not told of as leaders. The caller holds l.mu.
func (l *learner) forget() {
	if len(l.dcs) == 0 {
		return // the members are not known
	}
	var gone []*probe
	for addr, p := range l.probes {
		if _, member := l.dcs[addr]; !member && !l.isSeed(addr) && !l.toldToLead(p) {
			gone = append(gone, p)
		}
	}
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
		if dc, known := l.dcs[r.address]; known {
			r.dc = dc
		} else if dc, known := l.dcs[addr]; known {
			r.dc = dc
		}
		reports = append(reports, &r)
	}
	t := build(reports, c.opts.dc, func(addr string) *node {
		if p := l.probes[addr]; p != nil {
			return p.node
		}
		return nil
	})
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
	if l.registry != nil && lasting(l.registry) && len(l.probes) == 0 {
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
	slices.Sort(texts)
	if len(texts) == 0 {
		texts = append(texts, "no answer yet")
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
