package dkv

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/signal"
)

// learner keeps the topology up to date. It probes the nodes that it knows, that is, asks
// each for its status again and again, and builds the topology from the answers. Each node
// has a goroutine of its own, so that one that hangs does not delay the others.
type learner struct {
	client *Client
	// probeNow makes all nodes be probed at once; chooseNow makes free places be filled.
	probeNow, chooseNow signal.Signal

	mu     sync.Mutex
	probes map[string]*probe // by address
	// known are the nodes to choose from, by address, as listed by members and registries.
	// Those in backoffs could not be reached lately and are not tried for a while.
	known           map[string]candidate
	backoffs        map[string]backoff
	masters, slaves places
	binding         *binding
	// otherErr is the error of the last node that belonged to another cluster, and otherAt
	// when it was found; nil if there was none.
	otherErr error
	otherAt  time.Time
	// listed is when the members were last asked for.
	listed time.Time
	// registry is the last error of the registries; nil after an answer.
	registry error
	// newsProbed is when a registry's news last made the nodes be probed, and newsPending
	// whether later news still have to.
	newsProbed  time.Time
	newsPending bool
}

// probe is what is known of one node.
type probe struct {
	node   *node
	cancel context.CancelFunc
	report *report // the last answer; nil if there is none
	err    error   // of the last attempt
	// timeouts counts consecutive attempts that got no answer in time, failed all
	// consecutive attempts that did not succeed.
	timeouts, failed int
	slave            bool
	answered         bool // at least once
	// stalled reports that calls wait for the node, and none of them has ended for a while.
	stalled atomic.Bool
}

const (
	// refresh is the time between two probes of a node while nothing fails.
	refresh = 5 * time.Second
	// probeTime is how long a node may take to answer.
	probeTime = time.Second
	// firstProbePause is the time to the next probe when a leader is missing or the node
	// fails; it doubles up to maxProbePause.
	firstProbePause = 50 * time.Millisecond
	maxProbePause   = 2 * time.Second
	// maxRejectedPause bounds the pause when the node does not accept the caller: that
	// lasts until someone changes a token, and a server may count the attempts.
	maxRejectedPause = 10 * time.Second
	// minGap is the least time between two probes of a node while calls fail or wait. The
	// gap grows like the pauses of calls, and starts again at minGap after calm without a
	// probe.
	minGap = 25 * time.Millisecond
	calm   = 2 * time.Second
	// maxTimeouts is how many consecutive probes a node may leave unanswered before the
	// calls that wait for it are cut off.
	maxTimeouts = 2
	// stallTime is how long the calls that wait for a node may go without one of them ending
	// before the nodes are asked who leads: with much time left, none of them fails.
	stallTime = 500 * time.Millisecond
)

func newLearner(c *Client) *learner {
	return &learner{
		client:   c,
		probes:   make(map[string]*probe),
		known:    make(map[string]candidate),
		backoffs: make(map[string]backoff),
		masters:  places{max: maxMasters},
		slaves:   places{max: maxSlaves},
		binding:  newBinding(c.opts.cluster),
	}
}

func (l *learner) start() {
	l.client.tasks.Go(func() { l.keepChoosing(l.client.ctx) })
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

// add starts to probe the node at an address. The caller holds l.mu.
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
	l.client.tasks.Go(func() { l.probeLoop(ctx, p) })
	return p
}

// probeLoop probes one node until ctx ends.
func (l *learner) probeLoop(ctx context.Context, p *probe) {
	pause, gap := firstProbePause, minGap
	var tls suspicion
	for {
		probeNow := l.probeNow.Changed() // taken first: a signal during the probe counts
		asked := time.Now()
		r, err := l.ask(ctx, p.node)
		tls.add(err)
		if ctx.Err() != nil {
			return
		}
		err = l.record(p, r, err)
		switch {
		case err == nil:
			l.listFrom(ctx, p.node, r)
		case errors.Is(err, context.DeadlineExceeded) && p.node.waitedFor():
			l.probeSoon() // an election may have ended since the others were asked
		}
		wait := refresh
		if err != nil || !l.leadersKnown() {
			wait, pause = pause, min(2*pause, longestPause(err))
		} else {
			pause = firstProbePause
		}
		if !l.pause(ctx, p, jitter(wait), probeNow) {
			return
		}
		if gap = nextPause(gap); time.Since(asked) >= calm {
			gap = minGap
		}
		if !sleepOr(ctx, max(jitter(gap)-time.Since(asked), jitter(minGap)), nil) {
			return
		}
	}
}

// pause waits until the node is to be probed again, and has all nodes probed if calls that
// wait for it stall. It reports false if ctx ends.
func (l *learner) pause(ctx context.Context, p *probe, wait time.Duration, probeNow <-chan struct{}) bool {
	for end := time.Now().Add(wait); ; {
		waits, ended := p.node.waitedFor(), p.node.ended.Load()
		if !sleepOr(ctx, min(stallTime, time.Until(end)), probeNow) {
			return false
		}
		select {
		case <-probeNow:
			return true
		default:
		}
		if time.Until(end) <= 0 {
			return true
		}
		p.stalled.Store(waits && p.node.waitedFor() && p.node.ended.Load() == ended)
		if p.stalled.Load() {
			l.probeSoon()
			return true
		}
	}
}

// longestPause returns the bound of the pauses after an error.
func longestPause(err error) time.Duration {
	if rejected(err) {
		return maxRejectedPause
	}
	return maxProbePause
}

// probeSoon makes the nodes be probed, since a request has failed or waits.
func (l *learner) probeSoon() {
	if l != nil {
		l.probeNow.Raise()
	}
}

// minNewsGap is the least time between two rounds of probes that a registry's news cause:
// many rows may change within a short time.
const minNewsGap = 250 * time.Millisecond

// probeAfterNews makes the nodes be probed within minNewsGap, since a registry has news.
func (l *learner) probeAfterNews() {
	l.mu.Lock()
	l.newsPending = true
	l.mu.Unlock()
	l.chooseNow.Raise()
}

// probeIfDue makes the nodes be probed if a registry's news are due, and returns the time
// until they are. The caller holds l.mu.
func (l *learner) probeIfDue(now time.Time) time.Duration {
	if !l.newsPending {
		return maxBackoff
	}
	if wait := minNewsGap - now.Sub(l.newsProbed); wait > 0 {
		return wait
	}
	l.newsProbed, l.newsPending = now, false
	l.probeNow.Raise()
	return maxBackoff
}

// leadersKnown reports whether all leaders are known and reachable.
func (l *learner) leadersKnown() bool {
	t := l.client.topology.Load()
	return t != nil && t.allLed()
}

// record stores the result of a probe. It returns why the node is not used; nil if it is.
func (l *learner) record(p *probe, r *report, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.probes[p.node.addr] != p {
		return err // it is not a member any more
	}
	if err == nil {
		if err = l.binding.check(r); err != nil {
			r = nil
			l.noteOtherCluster(err)
		} else if l.binding.bind(r) {
			l.client.opts.log.Info("bound to a cluster", "cluster", l.binding.name(), "address", p.node.addr)
		}
	}
	if (p.err == nil) != (err == nil) {
		l.logChange(p, err)
	}
	p.report, p.err = r, err
	if err == nil {
		l.addLeaders(r)
	}
	l.dropFormer()
	l.rebuild()
	if p.timeouts++; !errors.Is(err, context.DeadlineExceeded) {
		p.timeouts = 0
		p.stalled.Store(false)
	}
	l.cutOff()
	l.replaceFailed(p, err)
	return err
}

// cutOff ends the calls that wait for nodes which have left probes unanswered, unless they have to wait: another
// node may have said just now that it leads. The caller holds l.mu.
func (l *learner) cutOff() {
	for _, p := range l.probes {
		enough := maxTimeouts
		if p.stalled.Load() {
			enough = 1
		}
		if p.timeouts >= enough && !l.mustWaitFor(p.node) {
			p.timeouts = 0
			l.client.reconnect(p.node)
		}
	}
}

// mustWaitFor reports whether calls have to wait for a node however long it does not
// answer: it leads as far as is known, and may just be slow. Calls that wait for any other
// node are better sent elsewhere.
func (l *learner) mustWaitFor(n *node) bool {
	t := l.client.topology.Load()
	return t == nil || !t.allLed() || slices.ContainsFunc(t.vBuckets, func(v vBucket) bool { return v.leader == n })
}

func (l *learner) logChange(p *probe, err error) {
	if errors.Is(err, ErrOtherCluster) {
		l.client.opts.log.Error("node of another cluster", "address", p.node.addr, "error", err)
	} else if err != nil {
		l.client.opts.log.Warn("node does not answer", "address", p.node.addr, "error", err)
	} else {
		l.client.opts.log.Info("node answers again", "address", p.node.addr)
	}
}

// rebuild builds the topology from the reports. If no node answers, the last one stays.
// The caller holds l.mu.
func (l *learner) rebuild() {
	c := l.client
	t := build(l.reports(), l.binding.names, c.opts.dc, func(addr string) *node {
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
			c.changed.Raise() // the reason why it is not known may be new
		}
		return
	}
	c.topology.Store(t)
	c.changed.Raise()
	c.opts.log.Debug("topology", "leaders", t.leaders())
}

// reports returns the last answers of the nodes that answer, with their data centres. The
// caller holds l.mu.
func (l *learner) reports() []*report {
	out := make([]*report, 0, len(l.probes))
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
		out = append(out, &r)
	}
	return out
}
