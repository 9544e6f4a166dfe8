package lease

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
)

// Keeper owns one vBucket's epochs on behalf of this process. Its methods are
// safe for concurrent use. It calls the Group and the Clock with no lock held.
type Keeper struct {
	group Group
	o     Options

	// grant is the lease; nil for none. It is of the active tenure.
	grant atomic.Pointer[grant]
	// active is the epoch in which this process serves; nil for none.
	active atomic.Pointer[tenure]
	// wanted reports that a reader has asked for a lease since the last renewal.
	wanted atomic.Bool
	// confirmed is when the last ReadIndex that succeeded began, by the clock.
	confirmed atomic.Int64
	counts    counts

	// wake holds a token when there is something for Run to look at.
	wake chan struct{}
	// tries is only Run's.
	tries attempts

	mu sync.Mutex
	// changed is raised when those who wait for the active epoch should look again.
	changed signal.Signal
	// waiting is the epoch whose wait-out is under way; nil for none.
	waiting *tenure
	// seen is what Leader said at the last step that did not own the vBucket.
	seen leading
	// lastActive is the last epoch that this process has activated.
	lastActive kv.Index
	// held counts the hand-overs under way.
	held  int
	state state

	// life ends with Run; rounds run under it.
	life context.Context
	// next is the ReadIndex that has not begun yet; nil for none.
	next    *round
	running int
	// background counts goroutines that Run waits for.
	background sync.WaitGroup
}

// state is where Run stands.
type state uint8

const (
	fresh state = iota
	running
	ended
)

// leading is what Group.Leader says.
type leading struct {
	term uint64
	self bool
}

// tenure is an epoch that was activated. One is never activated again.
type tenure struct {
	epoch kv.Index
	term  uint64
	// lease is how long leases last in it: as the epoch's record says, which is what
	// the next owner waits for.
	lease time.Duration
}

// grant is a lease: the tenure's until a reading of the clock.
type grant struct {
	tenure *tenure
	until  time.Duration
}

// New returns a Keeper that does nothing until Run.
func New(g Group, o Options) *Keeper {
	o.setDefaults()
	return &Keeper{group: g, o: o, wake: make(chan struct{}, 1)}
}

// LeaderChanged says that Leader may have changed. It does not block.
func (k *Keeper) LeaderChanged() {
	k.rouse()
	k.poke()
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// announce wakes those who wait for the active epoch: it, held or state has changed,
// or the leader has. mu is held.
func (k *Keeper) announce() {
	k.changed.Raise()
	k.o.Changed.Raise()
}

// rouse has all who wait look at Leader again, since it may have changed.
func (k *Keeper) rouse() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.announce()
}

// lookAgain has those who wait for the active epoch look at Leader again. They wait while
// this process leads: without it they would not hear of a takeover that was given up,
// since nothing that was active has ended. Those who watch the whole node hear of it only
// if Leader says something else than at the last call.
func (k *Keeper) lookAgain(term uint64, self bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed.Raise()
	if now := (leading{term, self}); now != k.seen {
		k.seen = now
		k.o.Changed.Raise()
	}
}

// revoke ends t, and its lease first: no reader that looks at either again will find it. A
// nil t means the one that is active.
func (k *Keeper) revoke(t *tenure) *tenure {
	k.mu.Lock()
	defer k.mu.Unlock()
	current := k.active.Load()
	if current == nil || t != nil && current != t {
		return nil
	}
	k.grant.Store(nil)
	k.active.Store(nil)
	k.announce()
	return current
}

// extend lets t's lease run until the given reading of the clock, unless t has
// been revoked.
func (k *Keeper) extend(t *tenure, until time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active.Load() != t {
		return
	}
	before := k.grant.Load()
	if before != nil && before.until >= until {
		return
	}
	k.grant.Store(&grant{tenure: t, until: until})
	if before == nil {
		k.poke() // Run looks seldom while there is no lease
	}
}

// lapse forgets a lease that has run out, so that readers need no clock to see
// that there is none.
func (k *Keeper) lapse() {
	if g := k.grant.Load(); g != nil && k.o.Clock.Now() >= g.until {
		k.grant.CompareAndSwap(g, nil)
	}
}

// Active returns the epoch to propose a mutation in, if it needs no wait.
func (k *Keeper) Active() (kv.Index, bool) {
	t := k.active.Load()
	if t == nil {
		return 0, false
	}
	term, self := k.group.Leader()
	return t.epoch, self && t.term == term
}

// Epoch returns the epoch to propose a mutation in. While this process takes the vBucket
// over, or hands it over, it waits. ErrNotOwner means that another process should be asked.
// The error of a context that has ended says that nothing was proposed.
func (k *Keeper) Epoch(ctx context.Context) (kv.Index, error) {
	t, err := k.tenure(ctx)
	if err != nil {
		return 0, err
	}
	return t.epoch, nil
}

// tenure waits for the active one.
func (k *Keeper) tenure(ctx context.Context) (*tenure, error) {
	for {
		t, st, changed := k.look()
		if st == ended {
			return nil, ErrClosed
		}
		term, self := k.group.Leader()
		switch {
		case !self:
			k.poke()
			return nil, ErrNotOwner
		case t != nil && t.term == term:
			return t, nil
		case t != nil:
			k.poke()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, kv.Errorf(kv.Unavailable, "this node is taking the vBucket over and does not serve it yet; try again: %w", ctx.Err())
		}
	}
}

// look returns what is active, the state, and what is closed when it is time to look
// again.
func (k *Keeper) look() (*tenure, state, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.active.Load(), k.state, k.changed.Changed()
}

// Fenced says that a mutation proposed in that epoch came back Fenced: the
// epoch, if it is still this process's, is over.
func (k *Keeper) Fenced(epoch kv.Index) {
	if t := k.active.Load(); t != nil && t.epoch == epoch {
		k.revoke(t)
	}
	k.poke()
}
