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
	// expires says of a write that its value may be gone later on.
	expires bool
}

// patience is how long a client waits, over all attempts.
const patience = 150 * time.Millisecond

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
		switch p, k := w.process(i); {
		case k == nil:
		case write:
			w.write(ctx, i, key)
		default:
			w.read(ctx, p, k, key)
		}
	}
}

// process is what runs on node i at present; its Keeper is nil if nothing does.
func (w *world) process(i int) (*port, *Keeper) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[i]
	p := &port{w: w, n: n, life: n.life}
	if n.down {
		return p, nil
	}
	return p, n.keeper
}

func (w *world) record(op simOp, from, to int64, output int) {
	w.history = append(w.history, porcupine.Operation{Input: op, Call: from, Output: output, Return: to})
}

// outcome is what a client knows of an attempt to write.
type outcome int

const (
	refused outcome = iota // it has no effect, for certain
	unknown
	acknowledged
)

// write writes at node i. Some clients send the same request again, at any node, if an
// attempt was refused or its outcome is unknown.
func (w *world) write(ctx context.Context, i, key int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, op, from, again := w.newWrite(key)
	home, sent := i, false
	for {
		result := w.attempt(ctx, i, c, again)
		sent = sent || result == unknown
		if result == acknowledged || !again || ctx.Err() != nil {
			w.mu.Lock()
			w.noteWrite(op, from, result, sent)
			w.mu.Unlock()
			return
		}
		w.mu.Lock()
		if i = home; w.chance(0.6) {
			i = w.rng.IntN(len(w.nodes))
		}
		w.reached.Retries++
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// newWrite draws what to write, and whether the client repeats it.
func (w *world) newWrite(key int) (c simCommand, op simOp, from int64, again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values++
	c = simCommand{kind: simWrite, key: key, write: simValue{value: w.values}}
	if again = w.chance(w.climate.retries); again {
		c.id = w.values
	}
	if w.chance(w.climate.expiring) {
		// By the client's own clock, which is as right as any.
		c.write.expires = w.nodes[w.rng.IntN(len(w.nodes))].wall() + w.between(0, w.climate.lease)
	}
	return c, simOp{write: true, key: key, value: w.values, expires: c.write.expires != 0}, w.tick(), again
}

// noteWrite records a write; sent reports whether an attempt may yet have an effect. mu
// is held.
func (w *world) noteWrite(op simOp, from int64, result outcome, sent bool) {
	w.reached.Writes++
	switch {
	case result == acknowledged:
		w.record(op, from, w.tick(), 0)
	case sent:
		w.reached.UnknownWrites++
		w.record(op, from, math.MaxInt64, 0)
	}
}

// attempt proposes a write at node i. One that is not the only one is given up early.
func (w *world) attempt(ctx context.Context, i int, c simCommand, impatient bool) outcome {
	if impatient {
		w.mu.Lock()
		some := w.between(5*time.Millisecond, 40*time.Millisecond)
		w.mu.Unlock()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, some)
		defer cancel()
	}
	p, k := w.process(i)
	if k == nil {
		return refused
	}
	var err error
	if c.epoch, err = k.Epoch(ctx); err != nil {
		return refused
	}
	c.clock = p.wall()
	r, err := p.propose(ctx, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil || p.gone():
		return unknown
	case !r.ok:
		w.reached.FencedWrites++
		defer k.Fenced(c.epoch)
		return refused
	}
	return acknowledged
}

// read reads under the lease, or has the leadership confirmed.
func (w *world) read(ctx context.Context, p *port, k *Keeper, key int) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	w.mu.Lock()
	from := w.tick()
	w.mu.Unlock()
	leave, ok := k.Take()
	for range 3 {
		if !ok {
			var err error
			if leave, err = k.Confirm(ctx); err != nil {
				return
			}
		}
		p.stutter(w.climate.view)
		value, due, alive := p.view(key)
		if !alive {
			return
		}
		p.stutter(w.climate.view)
		if due {
			// What no later owner may show has to be expired for all of them.
			if p.moveClock(ctx, k) != nil {
				return
			}
			leave, ok = k.Take()
			continue
		}
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
