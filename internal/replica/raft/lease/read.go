package lease

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

// Lease is leave to read the local state as the owner. It holds for views that
// are taken between getting it and a Valid that returns true.
type Lease struct {
	k      *Keeper
	tenure *tenure
	// confirmed by a ReadIndex of its own, which does not run out, but ends with
	// the leadership.
	confirmed bool
}

// Take returns the lease, if there is one: the reader then takes its view of the
// local state and asks Valid, which alone decides. It neither blocks nor
// allocates.
func (k *Keeper) Take() (Lease, bool) {
	if !k.wanted.Load() {
		k.wanted.Store(true)
	}
	g := k.grant.Load()
	if g == nil || k.o.breaches.has(noRecheck) && k.o.Clock.Now() >= g.until {
		return Lease{}, false
	}
	return Lease{k: k, tenure: g.tenure}, true
}

// Valid reports, after the view was taken, whether what it shows may be returned as
// linearizable. If not, the view must not be used: call Confirm, and take another.
func (l Lease) Valid() bool {
	k := l.k
	if l.confirmed {
		ok := k.stillLeads(l.tenure) || k.o.breaches.has(noRecheckConfirmed)
		if ok {
			k.counts.confirmed.Add(1)
		}
		return ok
	}
	if !k.o.breaches.has(noRecheck) {
		g := k.grant.Load()
		if g == nil || g.tenure != l.tenure || k.o.Clock.Now() >= g.until {
			return false
		}
	}
	k.counts.leaseReads.add()
	return true
}

// Held reports whether the lease runs at present. Unlike Take it is for status alone: it
// neither counts as a read nor has the lease renewed.
func (k *Keeper) Held() bool {
	g := k.grant.Load()
	return g != nil && k.o.Clock.Now() < g.until
}

// Confirmed returns the reading of the clock at which a majority was last asked
// successfully whether this process leads: everything committed before it was then applied
// here. It is 0 if there was no such time. Like Held it has no effect.
func (k *Keeper) Confirmed() time.Duration { return time.Duration(k.confirmed.Load()) }

func (k *Keeper) note(confirmed time.Duration) {
	for {
		last := k.confirmed.Load()
		if int64(confirmed) <= last || k.confirmed.CompareAndSwap(last, int64(confirmed)) {
			return
		}
	}
}

// stillLeads reports whether t is active and this replica the leader of its term.
func (k *Keeper) stillLeads(t *tenure) bool {
	term, self := k.group.Leader()
	return self && term == t.term && k.serving() == t
}

// serving is the tenure to read in; nil for none.
func (k *Keeper) serving() *tenure {
	t := k.active.Load()
	if t == nil && k.o.breaches.has(readWhileWaiting) {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.waiting
	}
	return t
}

// Confirm gives leave to read where Take does not: it waits for the active epoch
// and for a ReadIndex in it that begins after the call. Callers share one. The
// lease is renewed by the same, so that the next reader finds one.
func (k *Keeper) Confirm(ctx context.Context) (Lease, error) {
	k.counts.fallbacks.Add(1)
	if !k.o.breaches.has(readWhileWaiting) {
		if _, err := k.tenure(ctx); err != nil {
			return Lease{}, err
		}
	}
	r, err := k.join()
	if err != nil {
		return Lease{}, err
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return Lease{}, kv.Errorf(kv.Unavailable, "waiting for the quorum to confirm the leader: %w", ctx.Err())
	}
	if r.err != nil {
		return Lease{}, r.err
	}
	return Lease{k: k, tenure: r.tenure, confirmed: true}, nil
}

// maxRounds bounds the ReadIndex calls in flight. More than one lets a reader
// begin without waiting for the round under way; many would only be more
// messages, since all who wait begin together.
const maxRounds = 4

// round is one ReadIndex and those who wait for it.
type round struct {
	done chan struct{}
	// Set before done is closed.
	tenure *tenure
	err    error
}

// join returns a round that has not begun yet.
func (k *Keeper) join() (*round, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != running {
		return nil, ErrClosed
	}
	if k.next == nil {
		k.next = &round{done: make(chan struct{})}
		if k.running < maxRounds {
			k.running++
			k.background.Add(1)
			go k.rounds()
		}
	}
	return k.next, nil
}

// rounds runs what there is to run.
func (k *Keeper) rounds() {
	defer k.background.Done()
	for {
		r := k.begin()
		if r == nil {
			return
		}
		r.tenure, r.err = k.confirm(k.life)
		k.finish(r)
	}
}

// begin returns the round that waits, which no reader can join any more. It returns nil,
// and counts one runner less, if there is none.
func (k *Keeper) begin() *round {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.next
	if !k.o.breaches.has(joinRunning) {
		k.next = nil
	}
	if r == nil {
		k.running--
	}
	return r
}

// finish wakes the readers that wait for r.
func (k *Keeper) finish(r *round) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next == r {
		k.next = nil
	}
	close(r.done)
}

// renew confirms the leadership for the lease alone.
func (k *Keeper) renew(ctx context.Context) {
	if _, err := k.confirm(ctx); err != nil {
		k.o.Log.Debug("the lease was not renewed", "error", err)
	}
}

// confirm has the quorum confirm that this process is the leader of its active
// epoch's term, and extends the lease by that.
func (k *Keeper) confirm(ctx context.Context) (*tenure, error) {
	t := k.serving()
	if t == nil || !k.stillLeads(t) {
		k.poke()
		return nil, ErrNotOwner
	}
	from := k.o.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, k.o.Timeout)
	k.counts.readIndexes.Add(1)
	err := k.group.ReadIndex(ctx)
	cancel()
	if err != nil {
		k.counts.failures.Add(1)
		return nil, kv.Errorf(kv.Unavailable, "the quorum did not confirm the leader: %w", err)
	}
	if !k.stillLeads(t) && !k.o.breaches.has(noLeaderCheck) {
		k.poke()
		return nil, ErrNotOwner
	}
	k.note(from)
	if k.o.breaches.has(leaseFromEnd) {
		from = k.o.Clock.Now()
	}
	if t.lease > 0 {
		k.extend(t, from+t.lease)
	}
	return t, nil
}
