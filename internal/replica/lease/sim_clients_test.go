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

// client reads at node i, and writes with the given chance, until ctx ends.
func (w *world) client(ctx context.Context, i int, writes float64) {
	n := w.nodes[i]
	for ctx.Err() == nil {
		w.mu.Lock()
		pause := w.between(0, 5*time.Millisecond)
		if !n.raft.hintSelf {
			// Most would only be told to go elsewhere.
			pause *= 10
		}
		key, write := w.rng.IntN(w.climate.keys), w.chance(writes)
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
		p.stutter(w.climate.view)
		value, alive := p.view(key)
		if !alive {
			return
		}
		p.stutter(w.climate.view)
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
