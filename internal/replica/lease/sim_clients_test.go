package lease

import (
	"context"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// simOp is one operation of a history.
type simOp struct {
	write bool
	key   int
	value int // what is written
}

// client reads and writes at node i until ctx ends.
func (w *world) client(ctx context.Context, i int) {
	n := w.nodes[i]
	for ctx.Err() == nil {
		w.mu.Lock()
		pause := w.between(0, 8*time.Millisecond)
		if !n.raft.hintSelf {
			// Most would only be told to go elsewhere.
			pause *= 6
		}
		key, write := w.rng.IntN(simKeys), w.chance(0.4)
		w.mu.Unlock()
		time.Sleep(pause)
		w.mu.Lock()
		p, k, down := &port{w: w, n: n, life: n.life}, n.keeper, n.down
		w.mu.Unlock()
		switch {
		case down:
		case write:
			w.write(ctx, p, k, key)
		default:
			w.read(ctx, p, k, key)
		}
	}
}

func (w *world) record(op simOp, from, to int64, output int) {
	w.history = append(w.history, porcupine.Operation{Input: op, Call: from, Output: output, Return: to})
}

func (w *world) write(ctx context.Context, p *port, k *Keeper, key int) {
	ctx, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
	defer cancel()
	w.mu.Lock()
	w.values++
	op := simOp{write: true, key: key, value: w.values}
	from := w.tick()
	w.mu.Unlock()
	epoch, err := k.Epoch(ctx)
	if err != nil {
		return
	}
	r, err := p.propose(ctx, simCommand{kind: simWrite, epoch: epoch, key: key, value: op.value})
	w.mu.Lock()
	w.reached.Writes++
	switch {
	case err != nil || p.life != p.n.life || p.n.down:
		w.reached.UnknownWrites++
		w.record(op, from, math.MaxInt64, 0)
	case !r.ok:
		w.reached.FencedWrites++
		defer k.Fenced(epoch)
	default:
		w.record(op, from, w.tick(), 0)
	}
	w.mu.Unlock()
}

func (w *world) read(ctx context.Context, p *port, k *Keeper, key int) {
	ctx, cancel := context.WithTimeout(ctx, 150*time.Millisecond)
	defer cancel()
	w.mu.Lock()
	from := w.tick()
	w.mu.Unlock()
	leave, ok := k.Take()
	for range 2 {
		if !ok {
			var err error
			if leave, err = k.Confirm(ctx); err != nil {
				return
			}
		}
		p.stutter(0.1)
		value, alive := p.view(key)
		if !alive {
			return
		}
		p.stutter(0.1)
		if leave.Valid() {
			p.stutter(0.02)
			w.mu.Lock()
			w.record(simOp{key: key}, from, w.tick(), value)
			w.mu.Unlock()
			return
		}
		ok = false
		w.mu.Lock()
		w.reached.VoidViews++
		w.mu.Unlock()
	}
}

// chaos makes things go wrong until ctx ends.
func (w *world) chaos(ctx context.Context, longest time.Duration) {
	time.Sleep(80 * time.Millisecond)
	for ctx.Err() == nil {
		w.mu.Lock()
		w.trouble(longest)
		// Mostly there is time to recover; sometimes one thing follows on another.
		pause := w.between(0, 250*time.Millisecond)
		if w.chance(0.4) {
			pause = w.between(0, 30*time.Millisecond)
		}
		w.mu.Unlock()
		time.Sleep(pause)
	}
}

// leading is a node that takes itself for the leader, mostly; mu is held.
func (w *world) leading() int {
	if w.chance(0.75) {
		for _, i := range w.rng.Perm(len(w.nodes)) {
			if w.nodes[i].raft.role == leader {
				return i
			}
		}
	}
	return w.rng.IntN(len(w.nodes))
}

// trouble is one thing that goes wrong; mu is held.
func (w *world) trouble(longest time.Duration) {
	i := w.leading()
	n, other := w.nodes[i], w.rng.IntN(len(w.nodes))
	span := w.between(10*time.Millisecond, 200*time.Millisecond)
	switch p := w.rng.IntN(100); {
	case p < 25:
		w.partition(i, w.rng.IntN(3), span)
	case p < 33:
		w.reached.Partitions++
		w.cut[i][other] = true
		w.after(span, func() { w.cut[i][other] = false })
	case p < 48:
		w.reached.Transfers++
		n.raft.send(other, simMessage{kind: "timeout-now"})
	case p < 68:
		w.handOver(n, other)
	case p < 78:
		w.pause(n, span)
	case p < 86:
		w.restart(i, span/4, longest)
	case p < 90:
		w.loss = 0.3
		w.after(span, func() { w.loss = 0 })
	case p < 95:
		w.slow = true
		w.after(span, func() { w.slow = false })
	default:
		w.jump(n)
	}
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

// jump lets a clock leap. During a takeover that would break what Clock
// promises: the wait would be too short.
func (w *world) jump(n *simNode) {
	if n.keeper.active.Load() != nil || w.o.jumpWhileWaiting {
		w.reached.Jumps++
		n.skew += w.between(0, 2*simLease)
	}
}

func (w *world) restart(i int, span time.Duration, longest time.Duration) {
	n := w.nodes[i]
	if n.down || w.ctx.Err() != nil {
		return
	}
	w.reached.Restarts++
	w.stop(n)
	w.after(span, func() { w.boot(i, longest) })
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
