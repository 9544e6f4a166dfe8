package lease

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// port is what a process sees of its replica and of its clock.
type port struct {
	w    *world
	n    *simNode
	life int
}

var errSimGone = errors.New("simulation: the process is gone")

// stutter stops the calling goroutine while its process is paused, and now and
// then for no reason.
func (p *port) stutter(chance float64) {
	w := p.w
	w.mu.Lock()
	var d time.Duration
	if w.chance(chance) {
		if d = w.between(0, 8*time.Millisecond); w.chance(w.climate.long) {
			d = w.between(0, 2*w.climate.lease)
		}
	}
	w.mu.Unlock()
	time.Sleep(d)
	for {
		w.mu.Lock()
		left := time.Until(p.n.paused)
		gone := p.n.life != p.life || p.n.down
		w.mu.Unlock()
		if left <= 0 || gone {
			return
		}
		time.Sleep(left)
	}
}

func (p *port) Leader() (uint64, bool) {
	p.stutter(0.003)
	p.w.mu.Lock()
	term, self := p.n.raft.hintTerm, p.n.raft.hintSelf && p.n.life == p.life && !p.n.down
	if self && p.n.raft.role != leader {
		p.w.reached.StaleLeaders++
	}
	p.w.mu.Unlock()
	p.stutter(0.003)
	return term, self
}

func (p *port) propose(ctx context.Context, c simCommand) (simResult, error) {
	p.stutter(p.w.climate.propose)
	w := p.w
	ch := make(chan simResult, 1)
	w.mu.Lock()
	if p.n.life != p.life || p.n.down || ctx.Err() != nil {
		w.mu.Unlock()
		return simResult{}, errSimGone
	}
	w.request++
	c.origin, c.request = p.n.raft.id, w.request
	p.n.raft.results[c.request] = ch
	p.n.raft.propose(c)
	w.mu.Unlock()
	select {
	case r := <-ch:
		p.stutter(w.climate.proposed)
		return r, nil
	case <-ctx.Done():
		return simResult{}, ctx.Err()
	}
}

func (p *port) Begin(ctx context.Context, term, nonce uint64, lease time.Duration) (
	now, previous command.Epoch, accepted bool, err error) {
	if p.w.o.understated {
		lease /= 2
	}
	r, err := p.propose(ctx, simCommand{kind: simBegin,
		begin: command.Begin{Term: term, Owner: uint64(p.n.raft.id) + 1, Nonce: nonce, Lease: lease, Stated: true}})
	return r.now, r.previous, r.ok, err
}

func (p *port) End(ctx context.Context, epoch kv.Index) error {
	r, err := p.propose(ctx, simCommand{kind: simEnd, epoch: epoch})
	if err == nil && !r.ok {
		err = errors.New("simulation: fenced")
	}
	return err
}

func (p *port) ReadIndex(ctx context.Context) error {
	p.stutter(0.01)
	w := p.w
	ch := make(chan struct{})
	w.mu.Lock()
	if p.n.life != p.life || p.n.down {
		w.mu.Unlock()
		return errSimGone
	}
	w.request++
	p.n.raft.indexed[w.request] = ch
	p.n.raft.read(p.n.raft.id, w.request)
	w.mu.Unlock()
	select {
	case <-ch:
		p.stutter(w.climate.readIndex)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Now is the node's clock.
func (p *port) Now() time.Duration {
	p.stutter(0.002)
	p.w.mu.Lock()
	now := p.n.skew + time.Duration(float64(time.Since(p.w.start))*p.n.rate)
	p.w.mu.Unlock()
	p.stutter(0.01)
	return now
}

func (p *port) NewTimer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(time.Duration(float64(d) / p.n.rate))
	return t.C, func() { t.Stop() }
}

// gone reports whether the process has ended; mu is held.
func (p *port) gone() bool { return p.n.life != p.life || p.n.down }

// wall is the process's clock for expiry: it is at least the log's and never goes back.
func (p *port) wall() time.Duration {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.wallLocked()
}

func (p *port) wallLocked() time.Duration {
	p.n.shown = max(p.n.shown, p.n.wall(), p.n.raft.machine.clock)
	return p.n.shown
}

// view is the local state, which a process that is gone cannot see. due reports that the
// value has expired by the process's clock and not yet by the log's.
func (p *port) view(key int) (value int, due, alive bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	m := &p.n.raft.machine
	v := m.registers[key]
	switch late := v.expired(p.wallLocked()); {
	case v.expired(m.clock) || late && p.w.o.hideUntold:
		p.w.reached.HiddenReads++
		return 0, false, !p.gone()
	case late:
		return 0, true, !p.gone()
	}
	return v.value, false, !p.gone()
}

// moveClock has the log's clock moved to this process's.
func (p *port) moveClock(ctx context.Context, k *Keeper) error {
	epoch, err := k.Epoch(ctx)
	if err != nil {
		return err
	}
	r, err := p.propose(ctx, simCommand{kind: simTick, epoch: epoch, clock: p.wall()})
	if err == nil && !r.ok {
		k.Fenced(epoch)
	}
	p.w.mu.Lock()
	p.w.reached.Ticks++
	p.w.mu.Unlock()
	return err
}
