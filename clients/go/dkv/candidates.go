package dkv

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// candidate is a node that a member list or a registry names.
type candidate struct {
	addr, dc string
	slave    bool
	// rank orders candidates: the lowest is tried first.
	rank int
}

const (
	rankLive    = iota // it was seen alive lately
	rankUnknown        // nothing is known of it
	rankSilent         // it has not been seen for long
)

const (
	// maxMasters and maxSlaves bound the nodes that a client connects to: member lists may
	// be long, and what they name may be dead. Clients choose their slaves at random, so
	// that many clients together use all of them.
	maxMasters = 32
	maxSlaves  = 8
	// maxKnown bounds the nodes that a client remembers to choose from.
	maxKnown = 1 << 14
	// recentlySeen is how lately a slave must have been seen to be tried first.
	recentlySeen = time.Minute
	// A node that could not be reached is replaced by another one after a pause that
	// doubles while none of them can be.
	firstReplace = 250 * time.Millisecond
	maxReplace   = 4 * time.Second
	// The node itself is tried again after a backoff that doubles as well.
	firstBackoff = 15 * time.Second
	maxBackoff   = 5 * time.Minute
	// maxFailed is how many consecutive probes of a node that has answered before may fail
	// before another node takes its place.
	maxFailed = 5
)

// places bounds the nodes of one kind, masters or slaves, that are probed at a time.
type places struct {
	max int
	// blocked are the times at which the places of failed nodes become free again.
	blocked []time.Time
	pause   time.Duration
}

// backoff is the time until which a failed node is not tried, and the pause that led to it.
type backoff struct {
	until time.Time
	pause time.Duration
}

func (l *learner) placesOf(slave bool) *places {
	if slave {
		return &l.slaves
	}
	return &l.masters
}

// setMembers replaces the list of nodes to choose from, and reports whether it differs from
// the last one.
func (l *learner) setMembers(all []candidate) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := maps.Clone(l.known)
	clear(l.known)
	if len(all) > maxKnown {
		mastersFirst(all)
	}
	for _, c := range all {
		if len(l.known) < maxKnown && l.usable(c.addr) {
			l.known[c.addr] = c
		}
	}
	for addr := range l.backoffs {
		if _, known := l.known[addr]; !known {
			delete(l.backoffs, addr)
		}
	}
	l.dropFormer()
	l.choose(time.Now())
	l.rebuild()
	return !maps.Equal(before, l.known)
}

// mastersFirst orders candidates so that slaves, however many, keep no master from being known.
func mastersFirst(all []candidate) {
	slices.SortStableFunc(all, func(a, b candidate) int {
		switch {
		case a.slave == b.slave:
			return 0
		case b.slave:
			return -1
		default:
			return 1
		}
	})
}

// choose starts to probe as many nodes as there are free places. The caller holds l.mu.
func (l *learner) choose(now time.Time) {
	for _, slave := range []bool{false, true} {
		kind := l.placesOf(slave)
		kind.blocked = slices.DeleteFunc(kind.blocked, func(t time.Time) bool { return !now.Before(t) })
		free := kind.max - len(kind.blocked) - l.probed(slave)
		if free > 0 {
			for _, c := range l.bestCandidates(slave, free, now) {
				l.add(c.addr, slave)
			}
		}
	}
}

// probed counts the nodes of a kind that are probed.
func (l *learner) probed(slave bool) (n int) {
	for _, p := range l.probes {
		if p.slave == slave {
			n++
		}
	}
	return n
}

// bestCandidates returns up to n nodes of a kind that are not probed yet: those in the
// client's data centre and of the lowest rank first, equals in random order.
func (l *learner) bestCandidates(slave bool, n int, now time.Time) []candidate {
	var out []candidate
	for addr, c := range l.known {
		if c.slave == slave && l.probes[addr] == nil && !now.Before(l.backoffs[addr].until) && !l.answersAt(addr) {
			out = append(out, c)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	slices.SortStableFunc(out, func(a, b candidate) int { return l.cost(a) - l.cost(b) })
	return out[:min(n, len(out))]
}

func (l *learner) cost(c candidate) int {
	const otherDC = 10 // more than any rank
	if dc := l.client.opts.dc; dc != "" && c.dc != dc {
		return otherDC + c.rank
	}
	return c.rank
}

// hasSpare reports whether more nodes of a kind are known than are probed.
func (l *learner) hasSpare(slave bool) bool {
	n := 0
	for _, c := range l.known {
		if c.slave == slave {
			n++
		}
	}
	return n > l.probed(slave)
}

// addLeaders starts to probe the leaders that a node names. The caller holds l.mu.
func (l *learner) addLeaders(r *report) {
	for i := range r.parts {
		addr := r.parts[i].leader
		if addr != "" && addr != r.address && !l.answersAt(addr) && l.usable(addr) && l.probed(false) < maxMasters {
			l.add(addr, false)
		}
	}
}

// answersAt reports whether a node that answers says that this is its address.
func (l *learner) answersAt(addr string) bool {
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

// replaceFailed counts the failures of a node. One that fails too often gives its place to
// another node, if there is one. The caller holds l.mu.
func (l *learner) replaceFailed(p *probe, err error) {
	addr, now := p.node.addr, time.Now()
	kind := l.placesOf(p.slave)
	if err == nil {
		p.answered, p.failed = true, 0
		delete(l.backoffs, addr)
		kind.pause = 0
		return
	}
	p.failed++
	if p.answered && p.failed < maxFailed || l.isSeed(addr) || l.followedAsLeader(p) || !l.hasSpare(p.slave) {
		return
	}
	b := l.backoffs[addr]
	b.pause = min(max(2*b.pause, firstBackoff), maxBackoff)
	b.until = now.Add(jitter(b.pause))
	l.backoffs[addr] = b
	kind.pause = min(max(2*kind.pause, firstReplace), maxReplace)
	kind.blocked = append(kind.blocked, now.Add(jitter(kind.pause)))
	l.drop(p)
	l.chooseNow.Raise()
}

// dropFormer stops probing the nodes that are not members (any more), are not in the target
// and are not named as leaders. The caller holds l.mu.
func (l *learner) dropFormer() {
	if len(l.known) == 0 {
		return // the members are not known
	}
	var gone []*probe
	for addr, p := range l.probes {
		if _, member := l.known[addr]; !member && !l.isSeed(addr) && !l.followedAsLeader(p) {
			gone = append(gone, p)
		}
	}
	l.drop(gone...)
}

// drop stops probing nodes and closes their connections.
func (l *learner) drop(gone ...*probe) {
	var addrs []string
	for _, p := range gone {
		p.cancel()
		delete(l.probes, p.node.addr)
		addrs = append(addrs, p.node.addr)
	}
	if len(addrs) > 0 {
		l.client.forget(addrs...)
	}
}

// followedAsLeader reports whether another node names this one as a leader.
func (l *learner) followedAsLeader(of *probe) bool {
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

// isSeed reports whether an address is one of those that the client was opened with.
func (l *learner) isSeed(addr string) bool { return slices.Contains(l.client.target.addrs, addr) }

// keepChoosing fills free places when their time comes, and has the nodes probed when a
// registry's news are due, until ctx ends.
func (l *learner) keepChoosing(ctx context.Context) {
	for {
		chooseNow := l.chooseNow.Changed()
		l.mu.Lock()
		now := time.Now()
		l.choose(now)
		next := l.probeIfDue(now)
		for _, slave := range []bool{false, true} {
			for _, at := range l.placesOf(slave).blocked {
				next = min(next, at.Sub(now))
			}
		}
		l.mu.Unlock()
		const least = 10 * time.Millisecond
		if !sleepOr(ctx, max(next, least), chooseNow) {
			return
		}
	}
}
