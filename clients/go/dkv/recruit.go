package dkv

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// candidate is a node that the client was told of.
type candidate struct {
	addr, dc string
	slave    bool
	// rank tells who is to be tried first, the least.
	rank int
}

const (
	rankLive    = iota // it was heard of lately
	rankUnknown        // nothing is known of it
	rankSilent         // it was not heard of for long
)

const (
	// maxMasters and maxSlaves bound the nodes that a client connects to: lists of
	// members may be long, and what they name be dead. Clients choose their slaves
	// at random, so that many of them use all.
	maxMasters = 32
	maxSlaves  = 8
	// maxKnown bounds the nodes that a client remembers to choose from.
	maxKnown = 1 << 14
	// lives is how lately a slave has to have been heard of to be tried first.
	lives = time.Minute
	// A node that could not be reached is replaced by another one after a pause
	// that doubles while none of them can be.
	firstRecruit = 250 * time.Millisecond
	lastRecruit  = 4 * time.Second
	// It is tried again itself after a rest that doubles, too.
	firstRest = 15 * time.Second
	lastRest  = 5 * time.Minute
	// patience is how many questions in a row a node that has answered before may
	// leave open before another one takes its place.
	patience = 5
)

// crew is the nodes of one kind, masters or slaves, among which the client chooses.
type crew struct {
	most int
	// cooling are the times at which places become free again.
	cooling []time.Time
	pause   time.Duration
}

// rest is until when a node is left alone.
type rest struct {
	until time.Time
	pause time.Duration
}

func (l *learner) crewOf(slave bool) *crew {
	if slave {
		return &l.slaves
	}
	return &l.masters
}

// members takes a list of which nodes there are, and reports whether it differs from the
// last one.
func (l *learner) members(all []candidate) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := maps.Clone(l.known)
	clear(l.known)
	for _, c := range all {
		if len(l.known) < maxKnown && l.usable(c.addr) {
			l.known[c.addr] = c
		}
	}
	for addr := range l.resting {
		if _, known := l.known[addr]; !known {
			delete(l.resting, addr)
		}
	}
	l.forget()
	l.choose(time.Now())
	l.rebuild()
	return !maps.Equal(before, l.known)
}

// choose begins to ask as many nodes as there are places for. The caller holds l.mu.
func (l *learner) choose(now time.Time) {
	for _, slave := range []bool{false, true} {
		crew := l.crewOf(slave)
		crew.cooling = slices.DeleteFunc(crew.cooling, func(t time.Time) bool { return !now.Before(t) })
		free := crew.most - len(crew.cooling) - l.asked(slave)
		if free > 0 {
			for _, c := range l.best(slave, free, now) {
				l.add(c.addr, slave)
			}
		}
	}
}

// asked counts the nodes of a kind that are asked.
func (l *learner) asked(slave bool) (n int) {
	for _, p := range l.probes {
		if p.slave == slave {
			n++
		}
	}
	return n
}

// best returns up to n nodes of a kind that are not asked yet: those in the own data
// centre and of the least rank, at random among equals.
func (l *learner) best(slave bool, n int, now time.Time) []candidate {
	var out []candidate
	for addr, c := range l.known {
		if c.slave == slave && l.probes[addr] == nil && !now.Before(l.resting[addr].until) && !l.isKnown(addr) {
			out = append(out, c)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	slices.SortStableFunc(out, func(a, b candidate) int { return l.cost(a) - l.cost(b) })
	return out[:min(n, len(out))]
}

func (l *learner) cost(c candidate) int {
	const far = 10 // more than any rank
	if dc := l.client.opts.dc; dc != "" && c.dc != dc {
		return far + c.rank
	}
	return c.rank
}

// spare reports whether a node of a kind waits to be asked in the place of another.
func (l *learner) spare(slave bool) bool {
	n := 0
	for _, c := range l.known {
		if c.slave == slave {
			n++
		}
	}
	return n > l.asked(slave)
}

// settle notes how the last question to a node ended; one that does not answer gives its
// place to another, if there is one. The caller holds l.mu.
func (l *learner) settle(p *probe, err error) {
	addr, now := p.node.addr, time.Now()
	crew := l.crewOf(p.slave)
	if err == nil {
		p.answered, p.failed = true, 0
		delete(l.resting, addr)
		crew.pause = 0
		return
	}
	p.failed++
	if p.answered && p.failed < patience || l.isSeed(addr) || l.toldToLead(p) || !l.spare(p.slave) {
		return
	}
	r := l.resting[addr]
	r.pause = min(max(2*r.pause, firstRest), lastRest)
	r.until = now.Add(jitter(r.pause))
	l.resting[addr] = r
	crew.pause = min(max(2*crew.pause, firstRecruit), lastRecruit)
	crew.cooling = append(crew.cooling, now.Add(jitter(crew.pause)))
	l.drop(p)
	l.hire.fire()
}

// recruit has free places taken when their time comes, and nodes asked when a registry
// has news, until ctx ends.
func (l *learner) recruit(ctx context.Context) {
	for {
		woken := l.hire.wait()
		l.mu.Lock()
		now := time.Now()
		l.choose(now)
		next := l.pokeIfDue(now)
		for _, slave := range []bool{false, true} {
			for _, at := range l.crewOf(slave).cooling {
				next = min(next, at.Sub(now))
			}
		}
		l.mu.Unlock()
		const least = 10 * time.Millisecond
		if !sleepOr(ctx, max(next, least), woken) {
			return
		}
	}
}
