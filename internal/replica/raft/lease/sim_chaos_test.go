package lease

import (
	"context"
	"time"
)

// trouble is a kind of thing that goes wrong.
type trouble int

const (
	isolate    trouble = iota // a node is cut off: from all, or only what it sends, or receives
	oneWay                    // one node does not hear another
	transfer                  // the leader moves on without a word to the Keeper
	handOver                  // the leader moves on in good order
	pauses                    // a process stands still
	restart                   // a process dies
	loss                      // messages are lost
	slowness                  // messages take long
	leap                      // a clock jumps forward
	coup                      // the leader moves on, and the old one is cut off and does not hear of it
	recampaign                // the leader is elected again
	laziness                  // a replica applies late
	wallLeap                  // a wall clock is set, forward or back
	troubles
)

// profile is a climate: what goes wrong how often, and where processes dawdle.
type profile struct {
	lease time.Duration
	keys  int
	// mixed is the chance that the nodes' leases differ in length, and change when they
	// start again.
	mixed float64
	// writes is the chance that a client that writes does so, rather than read; 0 stands
	// for 0.7.
	writes float64
	// retries is the chance that a client sends a request again, elsewhere.
	retries float64
	// expiring is the chance that what is written expires, and skew bounds how wrong the
	// wall clocks are by which it does.
	expiring float64
	skew     time.Duration
	// hurry is the chance that one trouble follows soon on another.
	hurry   float64
	weights [troubles]int
	// drift is the bound on the clocks.
	drift float64
	// Chances that a process dawdles: before or behind a view, before a proposal,
	// behind its result, behind a ReadIndex; and that it does so for long.
	view, propose, proposed, readIndex, long float64
	// hint bounds how late a replica says that its leader is another one; 0 stands for
	// 8 ms.
	hint time.Duration
	// lateApply is the chance that a replica applies late.
	lateApply float64
}

// climates are what every run of the real thing goes through in turn.
var climates = [...]profile{
	{ // temperate
		lease: 100 * time.Millisecond, keys: 2, mixed: 0.4, hurry: 0.4, retries: 0.2,
		weights: [troubles]int{25, 8, 15, 20, 10, 8, 4, 5, 5, 10, 2, 3}, drift: DefaultDrift,
		view: 0.1, propose: 0.01, proposed: 0.03, readIndex: 0.03, long: 0.3, lateApply: 0.05,
	},
	{ // clocks far apart
		lease: 100 * time.Millisecond, keys: 1, mixed: 0, hurry: 0.3,
		weights: [troubles]int{isolate: 10, coup: 60, transfer: 10, leap: 5}, drift: 0.5,
		view: 0.02, propose: 0.01, proposed: 0.01, readIndex: 0.01, long: 0.3, lateApply: 0.02,
	},
	{ // dawdling readers
		lease: 100 * time.Millisecond, keys: 1, mixed: 0.5, hurry: 0.4,
		weights: [troubles]int{isolate: 10, coup: 30, transfer: 10, handOver: 40, pauses: 10, laziness: 20}, drift: DefaultDrift,
		view: 0.4, propose: 0.02, proposed: 0.02, readIndex: 0.03, long: 0.7, lateApply: 0.2,
	},
	{ // dawdling writers
		lease: 200 * time.Millisecond, keys: 1, mixed: 0.3, hurry: 0.5,
		weights: [troubles]int{coup: 30, transfer: 20, handOver: 60, pauses: 5, laziness: 20}, drift: DefaultDrift,
		view: 0.02, propose: 0.3, proposed: 0.2, readIndex: 0.02, long: 0.6, lateApply: 0.3,
	},
	{ // a slow quorum
		lease: 100 * time.Millisecond, keys: 1, mixed: 0.3, hurry: 0.4,
		weights: [troubles]int{coup: 50, slowness: 40, oneWay: 20, loss: 5}, drift: DefaultDrift,
		view: 0.02, propose: 0.01, proposed: 0.02, readIndex: 0.4, long: 0.6, lateApply: 0.05,
	},
	{ // leaders that come and go
		lease: 250 * time.Millisecond, keys: 1, mixed: 0.3, hurry: 0.6,
		weights: [troubles]int{coup: 30, recampaign: 30, handOver: 40, restart: 10, leap: 15}, drift: DefaultDrift,
		view: 0.02, propose: 0.01, proposed: 0.05, readIndex: 0.02, long: 0.5, lateApply: 0.05,
	},
	{ // leases of every length, and owners that do not get to serve
		lease: 250 * time.Millisecond, keys: 1, mixed: 1, hurry: 0.7,
		weights: [troubles]int{coup: 40, transfer: 30, isolate: 10, recampaign: 5, restart: 10, pauses: 5}, drift: DefaultDrift,
		view: 0.02, propose: 0.05, proposed: 0.02, readIndex: 0.02, long: 0.5, lateApply: 0.05,
	},
	{ // hand-overs that take their time, and others that do not wait for them
		lease: 200 * time.Millisecond, keys: 1, mixed: 0, hurry: 0.9,
		weights: [troubles]int{coup: 50, handOver: 50}, drift: DefaultDrift,
		view: 0.02, propose: 0.02, proposed: 0.5, readIndex: 0.02, long: 0.6, lateApply: 0.05,
	},
	{ // wall clocks that are wrong, and keys that expire
		lease: 100 * time.Millisecond, keys: 2, mixed: 0.1, hurry: 0.5, retries: 0.3, expiring: 0.7, skew: 300 * time.Millisecond, writes: 0.15,
		weights: [troubles]int{coup: 20, transfer: 20, handOver: 30, restart: 10, pauses: 5, wallLeap: 30}, drift: DefaultDrift,
		view: 0.05, propose: 0.02, proposed: 0.02, readIndex: 0.02, long: 0.3, lateApply: 0.05,
	},
	{ // clients that repeat themselves, at nodes that apply late
		lease: 80 * time.Millisecond, keys: 1, mixed: 0.1, hurry: 0.1, writes: 0.5, retries: 1, hint: 400 * time.Millisecond,
		weights: [troubles]int{coup: 60, pauses: 10, laziness: 20}, drift: DefaultDrift,
		view: 0.01, propose: 0.02, proposed: 0.02, readIndex: 0.02, long: 0.2, lateApply: 0.5,
	},
}

const (
	temperate = iota
	drifting
	dawdlingReaders
	dawdlingWriters
	slowQuorum
	restless
	lopsided
	handingOver
	expiring
	repetitive
)

var climateNames = [...]string{
	temperate:       "temperate",
	drifting:        "drifting",
	dawdlingReaders: "dawdling readers",
	dawdlingWriters: "dawdling writers",
	slowQuorum:      "slow quorum",
	restless:        "restless",
	lopsided:        "lopsided",
	handingOver:     "handing over",
	expiring:        "expiring",
	repetitive:      "repetitive",
}

// chaos makes things go wrong until ctx ends.
func (w *world) chaos(ctx context.Context) {
	time.Sleep(80 * time.Millisecond)
	for ctx.Err() == nil {
		w.mu.Lock()
		w.trouble()
		// Mostly there is time to recover; sometimes one thing follows on another.
		pause := w.between(0, 250*time.Millisecond)
		if w.chance(w.climate.hurry) {
			pause = w.between(0, 30*time.Millisecond)
		}
		w.mu.Unlock()
		time.Sleep(pause)
	}
}

// leading is mostly the node that leads the latest term; mu is held.
func (w *world) leading() int {
	found := w.rng.IntN(len(w.nodes))
	if w.chance(0.25) {
		return found
	}
	for i, n := range w.nodes {
		r, other := n.raft, w.nodes[found].raft
		if r.role == leader && !n.down && (other.role != leader || r.term > other.term) {
			found = i
		}
	}
	return found
}

// trouble is one thing that goes wrong; mu is held.
func (w *world) trouble() {
	i := w.leading()
	n, other := w.nodes[i], w.rng.IntN(len(w.nodes))
	span := w.between(10*time.Millisecond, 200*time.Millisecond)
	switch w.pick() {
	case isolate:
		w.partition(i, w.rng.IntN(3), span)
	case oneWay:
		w.reached.Partitions++
		w.cut[i][other] = true
		w.after(span, func() { w.cut[i][other] = false })
	case transfer:
		w.reached.Transfers++
		n.raft.send(other, simMessage{kind: "timeout-now"})
	case handOver:
		w.handOver(n, other)
	case pauses:
		w.pause(n, span)
	case restart:
		w.restart(i, span/4)
	case loss:
		w.loss = 0.3
		w.after(span, func() { w.loss = 0 })
	case slowness:
		w.slow = true
		w.after(span, func() { w.slow = false })
	case leap:
		w.leap(n)
	case coup:
		w.reached.Transfers++
		n.raft.send(other, simMessage{kind: "timeout-now"})
		w.after(w.between(0, 3*time.Millisecond), func() { w.partition(i, w.rng.IntN(3), span+w.climate.lease) })
	case laziness:
		w.lazy = w.rng.IntN(len(w.nodes))
	case wallLeap:
		w.reached.WallJumps++
		n.offset = w.between(-w.climate.skew, w.climate.skew)
	case recampaign:
		if n.raft.role == leader && !n.down {
			n.raft.campaign()
		}
	}
}

// pick draws from the climate's weights.
func (w *world) pick() trouble {
	sum := 0
	for _, weight := range w.climate.weights {
		sum += weight
	}
	p := w.rng.IntN(sum)
	for kind, weight := range w.climate.weights {
		if p -= weight; p < 0 {
			return trouble(kind)
		}
	}
	panic("simulation: unreachable")
}

// partition cuts node i off: from all, or only what it sends, or receives.
func (w *world) partition(i, direction int, span time.Duration) {
	w.reached.Partitions++
	set := func(cut bool) {
		for j := range w.nodes {
			w.cut[i][j] = cut && direction != 1
			w.cut[j][i] = cut && direction != 2
		}
	}
	set(true)
	w.after(span, func() { set(false) })
}

func (w *world) pause(n *simNode, span time.Duration) {
	if n.down || time.Until(n.paused) > 0 {
		return
	}
	w.reached.Pauses++
	n.paused = time.Now().Add(span)
	if w.o.suspendedClock {
		n.skew -= time.Duration(float64(span) * n.rate)
	}
}

// leap lets a clock jump. During a takeover that would break what Clock
// promises: the wait would be too short.
func (w *world) leap(n *simNode) {
	if n.keeper.active.Load() != nil || w.o.jumpWhileWaiting {
		w.reached.Jumps++
		n.skew += w.between(0, 2*w.climate.lease)
	}
}

func (w *world) restart(i int, span time.Duration) {
	n := w.nodes[i]
	if n.down || w.ctx.Err() != nil {
		return
	}
	w.reached.Restarts++
	w.stop(n)
	w.after(span, func() { w.boot(i) })
}

// handOver has n give the vBucket to another node, as an operator would.
func (w *world) handOver(n *simNode, to int) {
	if n.down || w.ctx.Err() != nil {
		return
	}
	w.reached.HandOvers++
	p, k := &port{w: w, n: n, life: n.life}, n.keeper
	w.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, 60*time.Millisecond)
		defer cancel()
		_ = k.HandOver(ctx, func(ctx context.Context) error {
			w.mu.Lock()
			if n.life == p.life && !n.down && n.raft.role == leader {
				n.raft.send(to, simMessage{kind: "timeout-now"})
			}
			w.mu.Unlock()
			for {
				if _, self := p.Leader(); !self {
					return nil
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	})
}
