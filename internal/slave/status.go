package slave

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Phase is what a Puller is doing.
type Phase string

const (
	// Searching looks for a master that can be followed.
	Searching Phase = "searching"
	// Bootstrapping loads a snapshot.
	Bootstrapping Phase = "bootstrapping"
	// Following applies changes as they arrive.
	Following Phase = "following"
	// Sealed waits for the end of a promotion, and does nothing else.
	Sealed Phase = "sealed"
)

// Status is the state of a Puller.
type Status struct {
	Phase Phase
	Mode  Mode
	// Master is the address of the node that is followed; empty for none.
	Master string
	// Applied is the copy's index, Newest the greatest that a master has reported, and
	// LagChanges the difference.
	Applied, Newest kv.Index
	LagChanges      uint64
	// Age is for how long the copy may have been out of date.
	Age time.Duration
	// Path are the nodes by which changes reach the copy, Master first; empty for none. Link is
	// how far the copy is behind Master alone.
	Path []string
	Link Link
	// Contact is the time since a master last answered; since the start if none has.
	Contact time.Duration
	// Met reports whether a master has answered since the start.
	Met bool
	// Switches counts the changes of master, Moves those of them to a better master, and
	// Bootstraps the snapshots that were loaded.
	Switches, Moves, Bootstraps uint64
	// Bytes counts the received bytes, of the keys and values of changes and of
	// snapshots.
	Bytes uint64
	// Plain and Packed are the bytes of what masters have sent compressed, before and after.
	Plain, Packed uint64
	// Snapshot is the progress of a bootstrap; zero if there is none.
	Snapshot Progress
	// Err is why the copy makes no progress; nil if it does.
	Err error
	// Outrun is why a snapshot is loaded again although one was just loaded; empty for nothing.
	Outrun string
	// Unfit is why Master, a slave itself, should not be read from, and has not been to for a while; empty
	// for nothing.
	Unfit string
	// Kept is why the copy follows no master although masters answer, and what an operator
	// can do; empty if it follows one.
	Kept string
}

// Progress is the progress of a bootstrap.
type Progress struct {
	// Bytes of about Size, which is 0 while unknown, have arrived.
	Bytes, Size uint64
	// Index is the change number that the snapshot is at.
	Index kv.Index
	Since time.Duration
}

// tracker collects a Status.
type tracker struct {
	// changed is raised after each change except the progress of a bootstrap.
	changed *signal.Signal

	mu      sync.Mutex
	s       Status
	former  string // the last master
	begun   time.Time
	contact time.Time
	loading time.Time
	// local reports that Err is this node's own, which another master does not help.
	local bool
	// stuck is the time since which nothing was applied although there are changes to
	// apply; zero if there are none.
	stuck time.Time
	// since is when the present phase began, appliedAt when the last change was
	// applied, or the start.
	since, appliedAt time.Time
	// kept is nil unless the copy is kept; see Puller.keep.
	kept *kept
	// upstream is what the present master has answered last.
	upstream upstream
	// unfit is what the last master has said of itself; it outlasts a session, each of which may be short.
	unfit unfit
}

func newTracker(changed *signal.Signal) tracker {
	now := time.Now()
	return tracker{changed: changed, s: Status{Phase: Searching}, begun: now, since: now, appliedAt: now}
}

// lock locks the tracker for a change; what it returns unlocks it and raises the signal.
func (t *tracker) lock() (unlock func()) {
	t.mu.Lock()
	return func() {
		t.mu.Unlock()
		t.changed.Raise()
	}
}

func (t *tracker) search(master string) {
	defer t.lock()()
	t.s.Phase, t.s.Master, t.s.Snapshot = Searching, master, Progress{}
}

// sealed records that a promotion has sealed the state.
func (t *tracker) sealed() {
	defer t.lock()()
	t.s.Phase, t.s.Master, t.s.Snapshot, t.kept = Sealed, "", Progress{}, nil
	t.clear(time.Time{})
}

func (t *tracker) following(master string) (first bool) {
	defer t.lock()()
	t.upstream = upstream{}
	t.s.Phase, t.s.Master, t.since, t.kept = Following, master, time.Now(), nil
	t.s.Outrun = ""
	if t.unfit.master != master {
		t.unfit = unfit{}
	}
	if !t.local {
		t.s.Err = nil
	}
	if first = t.former != master; first && t.former != "" {
		t.s.Switches++
	}
	t.former = master
	return first
}

func (t *tracker) bootstrapping(master string) {
	defer t.lock()()
	t.s.Phase, t.s.Master, t.s.Snapshot, t.loading = Bootstrapping, master, Progress{}, time.Now()
}

// outrun records why a snapshot is loaded again.
func (t *tracker) outrun(why string) {
	defer t.lock()()
	t.s.Outrun = why
}

func (t *tracker) loaded(p Progress, more int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Snapshot, t.contact = p, time.Now()
	t.s.Bytes += uint64(more)
}

func (t *tracker) bootstrapped() {
	defer t.lock()()
	t.s.Bootstraps++
	t.kept = nil
	t.s.Newest = 0
	t.clear(time.Time{})
}

// heard records how far a master says it is, while the state is at applied.
func (t *tracker) heard(newest, applied kv.Index, bytes int) {
	defer t.lock()()
	t.s.Newest = max(t.s.Newest, newest)
	t.s.Bytes += uint64(bytes)
	t.contact = time.Now()
	if t.stuck.IsZero() && t.s.Newest > applied {
		t.stuck = t.contact
	}
}

// unfit is why a master, a slave itself, should not be read from, and since when.
type unfit struct {
	master, why string
	since       time.Time
}

// masterIs records why the master that is followed should not be read from; empty for nothing.
func (t *tracker) masterIs(master, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.unfit
	switch {
	case t.s.Phase != Following || t.s.Master != master || why == "" && was.why == "":
		return
	case why == "":
		t.unfit = unfit{}
	case was.master != master || was.why == "":
		t.unfit = unfit{master, why, time.Now()}
	default:
		t.unfit.why = why
	}
	t.changed.Raise()
}

// keep records why the copy is kept.
func (t *tracker) keep(k *kept) {
	defer t.lock()()
	t.kept = k
}

// keeping returns why the copy is kept; nil if it is not.
func (t *tracker) keeping() *kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

// moved records a move to a better master.
func (t *tracker) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Moves++
}

// newest returns the greatest number that a master has reported.
func (t *tracker) newest() kv.Index {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.Newest
}

// applied records that the state has reached an index.
func (t *tracker) applied(at kv.Index) {
	defer t.lock()()
	t.appliedAt = time.Now()
	if t.s.Newest <= at {
		t.clear(time.Time{})
	} else {
		t.clear(t.appliedAt)
	}
}

// level records that there is nothing to apply.
func (t *tracker) level() {
	defer t.lock()()
	t.clear(time.Time{})
}

func (t *tracker) clear(stuck time.Time) { t.s.Err, t.local, t.stuck = nil, false, stuck }

// lastApplied returns when changes were last applied; the start if none were.
func (t *tracker) lastApplied() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.appliedAt
}

// served returns for how long the present master was followed.
func (t *tracker) served() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s.Phase != Following {
		return 0
	}
	return time.Since(t.since)
}

func (t *tracker) failing(err error) {
	defer t.lock()()
	var local localError
	if t.local && !errors.As(err, &local) {
		return // masters come and go; this is what keeps the state from going on
	}
	t.s.Err, t.local = err, errors.As(err, &local)
}

// stuckHere reports whether nothing can be applied for a reason of this node's own.
func (t *tracker) stuckHere() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.local
}

// stuckFor returns for how long nothing was applied although there are changes to apply.
func (t *tracker) stuckFor() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stuck.IsZero() {
		return 0
	}
	return time.Since(t.stuck)
}

// Status returns the puller's status without waiting.
func (p *Puller) Status() Status {
	t := &p.status
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.Mode = p.mode()
	_, s.Applied = p.opts.State.Position()
	s.LagChanges = era.Distance(s.Applied, s.Newest)
	s.Age = p.opts.State.Age()
	s.Plain, s.Packed = p.shrunk.Bytes()
	s.Path, s.Link = t.link(s.Applied, s.Age)
	s.Met = !t.contact.IsZero()
	last := t.begun
	if s.Met {
		last = t.contact
	}
	s.Contact = sleep.Since(last)
	if s.Phase == Bootstrapping {
		s.Snapshot.Since = time.Since(t.loading)
	}
	if t.kept != nil {
		s.Kept = t.kept.reason
	}
	// For a moment that is nothing: one that has just been started says so too, and the copy may be level.
	if t.unfit.why != "" && t.unfit.master == s.Master && time.Since(t.unfit.since) >= minStuck {
		s.Unfit = t.unfit.why
	}
	return s
}

// quietIntervals is the number of poll intervals without contact, or without progress
// although there are changes to apply, after which a slave is unhealthy.
const quietIntervals = 10

// minStuck is the least time without progress that counts, and for which a master should not be read from:
// applying a backlog takes a while on a slow disk, however short the interval is.
const minStuck = 5 * time.Second

// Healthy returns why the copy should not be read from; nil if it may.
func (p *Puller) Healthy() error {
	s := p.Status()
	id, _ := p.opts.State.Position()
	failure, stuck := p.opts.State.Failure(), p.status.stuckFor()
	switch limit := quietIntervals * p.opts.PollInterval; {
	case failure != nil:
		return fmt.Errorf("vBucket %s can apply nothing more: %w", p.opts.VBucket, failure)
	case p.opts.State.Sealed() != "":
		return fmt.Errorf("vBucket %s is sealed by promotion %s and follows no master", p.opts.VBucket, p.opts.State.Sealed())
	case s.Kept != "":
		return errors.New(s.Kept)
	case s.Phase == Bootstrapping && s.Err != nil: // it tries again and again
		return fmt.Errorf("vBucket %s is bootstrapping from %s again, %d MiB of about %d, after this error: %w",
			p.opts.VBucket, s.Master, s.Snapshot.Bytes>>20, s.Snapshot.Size>>20, s.Err)
	case s.Phase == Bootstrapping && s.Outrun != "":
		return fmt.Errorf("vBucket %s is bootstrapping from %s again, %d MiB of about %d: %s", p.opts.VBucket, s.Master, s.Snapshot.Bytes>>20, s.Snapshot.Size>>20, s.Outrun)
	case s.Phase == Bootstrapping:
		return fmt.Errorf("vBucket %s is bootstrapping from %s: %d MiB of about %d", p.opts.VBucket, s.Master, s.Snapshot.Bytes>>20, s.Snapshot.Size>>20)
	case id.History == "" && s.Err != nil:
		return fmt.Errorf("vBucket %s has no data yet: %w", p.opts.VBucket, s.Err)
	case id.History == "":
		return fmt.Errorf("vBucket %s has no data yet", p.opts.VBucket)
	case !s.Met:
		return fmt.Errorf("vBucket %s has not met a master since the start", p.opts.VBucket)
	case s.Contact > limit:
		return fmt.Errorf("vBucket %s has heard of no master for %v, and %v is the limit", p.opts.VBucket, s.Contact.Round(time.Second), limit)
	case s.Phase == Following && s.Unfit != "": // what it has is as old there
		return fmt.Errorf("vBucket %s follows a slave, %s, that should not be read from itself: %s", p.opts.VBucket, s.Master, s.Unfit)
	case s.LagChanges > 0 && stuck > max(limit, minStuck) && s.Err != nil:
		return fmt.Errorf("vBucket %s is %d changes behind and has applied nothing for %v: %w", p.opts.VBucket, s.LagChanges, stuck.Round(time.Second), s.Err)
	case s.LagChanges > 0 && stuck > max(limit, minStuck):
		return fmt.Errorf("vBucket %s is %d changes behind and has applied nothing for %v", p.opts.VBucket, s.LagChanges, stuck.Round(time.Second))
	case s.LagChanges > p.opts.MaxActiveLag:
		return fmt.Errorf("vBucket %s is %d changes behind, and %d is the limit", p.opts.VBucket, s.LagChanges, p.opts.MaxActiveLag)
	}
	return nil
}
