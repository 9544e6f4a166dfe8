package lease

import (
	"context"
	"errors"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/periodic"
)

// Run looks after the epoch and its lease until ctx ends, and returns ctx's
// error; everything that waits is then told ErrClosed, and nothing of the Keeper
// is left behind. It runs once.
func (k *Keeper) Run(ctx context.Context) error {
	life, cancel := context.WithCancel(ctx)
	k.mu.Lock()
	if k.state != fresh {
		k.mu.Unlock()
		cancel()
		return ErrClosed
	}
	k.state, k.life = running, life
	k.announce()
	k.mu.Unlock()
	for ctx.Err() == nil {
		k.step(life)
	}
	cancel()
	k.revoke(nil)
	k.mu.Lock()
	k.state = ended
	k.announce()
	k.mu.Unlock()
	k.background.Wait()
	return ctx.Err()
}

// idlePolls is how many times as long as Poll the pauses of a Keeper are at most that has nothing
// to do: it follows, or owns the vBucket and has no lease. LeaderChanged and a new lease
// end them.
const idlePolls = 5

// step does what is due and waits for more.
func (k *Keeper) step(ctx context.Context) {
	pause := k.o.Poll
	term, self := k.group.Leader()
	t := k.active.Load()
	switch {
	case !self:
		k.revoke(nil)
		k.lookAgain(term, self)
		pause = k.idlePause()
	case t == nil || t.term != term:
		k.revoke(nil)
		if k.activate(ctx, term) {
			return
		}
		k.lookAgain(term, self)
	case k.o.Length > 0:
		if k.wanted.Swap(false) {
			k.renew(ctx)
		}
		if k.lapse(); k.grant.Load() != nil {
			pause = min(pause, k.o.Renew)
		} else {
			pause = k.idlePause()
		}
	default:
		pause = k.idlePause()
	}
	k.sleep(ctx, pause)
}

// idlePause is how long a Keeper pauses that has nothing to do.
func (k *Keeper) idlePause() time.Duration { return periodic.Until(k.o.Turn, idlePolls*k.o.Poll) }

// sleep waits for d, or until it is woken.
func (k *Keeper) sleep(ctx context.Context, d time.Duration) {
	timer, stop := k.o.Clock.NewTimer(d)
	defer stop()
	select {
	case <-timer:
	case <-k.wake:
	case <-ctx.Done():
	}
}

// activate makes this process, the leader of the given term, the owner, and reports whether
// it could.
func (k *Keeper) activate(ctx context.Context, term uint64) bool {
	if k.isHeld() {
		return false
	}
	// The term was won before this reading, and every other process that holds a lease
	// began to confirm it before that.
	from := k.o.Clock.Now()
	begun, cancel := context.WithTimeout(ctx, k.tries.timeout(term, &k.o))
	k.background.Go(func() { k.endWith(begun, term, cancel) })
	now, previous, accepted, err := k.group.Begin(begun, term, k.o.Nonce, k.o.Length)
	k.tries.late = errors.Is(begun.Err(), context.DeadlineExceeded)
	cancel()
	if err != nil {
		k.counts.failures.Add(1)
		if now, self := k.group.Leader(); ctx.Err() != nil || !self || now != term { // as in any election
			k.o.Log.Info("the term has ended before its epoch was begun", "term", term, "error", err)
		} else {
			k.o.Log.Warn("the owner's epoch could not be begun; trying again", "term", term, "error", err)
		}
		return false
	}
	if !accepted {
		k.o.Log.Info("another epoch is further than this leader's", "term", term, "epoch", now.ID, "of", now.Term, "owner", now.Owner)
		return false
	}
	t := &tenure{epoch: now.ID, term: term, lease: min(k.o.Length, now.Lease)}
	if k.o.breaches.has(unrecorded) {
		t.lease = k.o.Length
	}
	if k.mustWait(now, previous) && !k.waitOut(ctx, t, from+k.o.waitOut(previous)) {
		return false
	}
	return k.install(t)
}

// endWith calls end once this process no longer leads the given term, unless ctx ends before. A
// BEGIN of a term that is lost, though it may still be applied, must not hold up the next term's.
func (k *Keeper) endWith(ctx context.Context, term uint64, end func()) {
	for ctx.Err() == nil {
		_, _, changed := k.look()
		if now, self := k.group.Leader(); !self || now != term {
			end()
			return
		}
		timer, stop := k.o.Clock.NewTimer(k.o.Poll)
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
		}
		stop()
	}
}

// attempts are the calls of Begin in a term.
type attempts struct {
	term  uint64
	limit time.Duration // of the last one
	late  bool          // it took all of that
}

// timeout returns how long the next attempt may take.
func (a *attempts) timeout(term uint64, o *Options) time.Duration {
	switch {
	case a.term != term || a.limit == 0:
		*a = attempts{term: term, limit: o.Timeout}
	case a.late:
		a.limit = min(2*a.limit, o.BeginTimeout)
	}
	return a.limit
}

// mustWait reports whether another process may hold a lease of the previous epoch or of one
// before it.
func (k *Keeper) mustWait(now, previous command.Epoch) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.o.breaches.has(noWaitOut) || k.o.breaches.has(trustOwner) && previous.Owner == now.Owner {
		return false
	}
	return previous.ID != 0 && !previous.Ended && previous.ID != k.lastActive
}

// waitOut waits for a reading of the clock, and reports whether this process was the leader
// of t's term all the while, and may continue.
func (k *Keeper) waitOut(ctx context.Context, t *tenure, until time.Duration) bool {
	k.counts.waitOuts.Add(1)
	k.setWaiting(t)
	defer k.setWaiting(nil)
	for {
		if term, self := k.group.Leader(); !self || term != t.term || ctx.Err() != nil || k.isHeld() {
			return false
		}
		left := until - k.o.Clock.Now()
		if left <= 0 {
			return true
		}
		k.sleep(ctx, min(left, k.o.Poll))
	}
}

func (k *Keeper) setWaiting(t *tenure) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = t
}

// install activates t, unless a hand-over has begun meanwhile.
func (k *Keeper) install(t *tenure) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held > 0 {
		return false
	}
	k.active.Store(t)
	k.lastActive = t.epoch
	k.counts.activations.Add(1)
	k.announce()
	return true
}

func (k *Keeper) isHeld() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held > 0
}
