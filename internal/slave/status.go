package slave

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/signal"
)

// Phase is what a Puller is doing.
type Phase string

const (
	// Searching looks for a master that can be followed.
	Searching Phase = "searching"
	// Bootstrapping gets a snapshot.
	Bootstrapping Phase = "bootstrapping"
	// Following applies changes as they come.
	Following Phase = "following"
)

// Status is where a Puller stands.
type Status struct {
	Phase Phase
	Mode  Mode
	// Master is the address of the node that is followed; empty for none.
	Master string
	// Applied is the copy's index, Newest the greatest that a master was heard to
	// have, and LagChanges what is in between.
	Applied, Newest kv.Index
	LagChanges      uint64
	// Age is for how long the copy may not have been the newest state any more.
	Age time.Duration
	// Contact is how long ago a master was heard of; since the start where none
	// was yet.
	Contact time.Duration
	// Met tells whether a master was heard of since the start.
	Met bool
	// Switches counts the changes of master, Moves those that were made since another one
	// was better, Bootstraps the snapshots applied.
	Switches, Moves, Bootstraps uint64
	// Bytes is how much was received, in keys and values of changes and in
	// snapshots.
	Bytes uint64
	// Snapshot is the progress of a bootstrap; zero where there is none.
	Snapshot Progress
	// Err is why the copy makes no progress; nil where it does.
	Err error
	// Kept is why the copy stays as it is although masters answer, and what an operator
	// may do; empty where that is not so.
	Kept string
}

// Progress is that of a bootstrap.
type Progress struct {
	// Bytes of about Size, which is 0 while unknown, have arrived.
	Bytes, Size uint64
	// Index is the change number that the snapshot is at.
	Index kv.Index
	Since time.Duration
}

// tracker collects a Status.
type tracker struct {
	// changed is raised after each change but the progress of a bootstrap.
	changed *signal.Signal

	mu      sync.Mutex
	s       Status
	former  string // the last master
	begun   time.Time
	contact time.Time
	loading time.Time
	// local tells that Err is this node's own, which another master does not cure.
	local bool
	// stuck is since when nothing is applied although there is something to apply;
	// zero where that is not so.
	stuck time.Time
	// since is when the present phase began, appliedAt when the last change was
	// applied, or the start.
	since, appliedAt time.Time
	// kept is nil where the copy is not; see Puller.keep.
	kept *kept
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

func (t *tracker) following(master string) (first bool) {
	defer t.lock()()
	t.s.Phase, t.s.Master, t.since, t.kept = Following, master, time.Now(), nil
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

// heard notes a master's word of how far it is, while the state is at applied.
func (t *tracker) heard(newest, applied kv.Index, bytes int) {
	defer t.lock()()
	t.s.Newest = max(t.s.Newest, newest)
	t.s.Bytes += uint64(bytes)
	t.contact = time.Now()
	if t.stuck.IsZero() && t.s.Newest > applied {
		t.stuck = t.contact
	}
}

// keep notes why the copy is kept.
func (t *tracker) keep(k *kept) {
	defer t.lock()()
	t.kept = k
}

// keeping is why the copy is kept; nil where it is not.
func (t *tracker) keeping() *kept {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

// moved notes that the master is left for a better one.
func (t *tracker) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Moves++
}

// newest is the greatest number that a master was heard to have.
func (t *tracker) newest() kv.Index {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.s.Newest
}

// applied notes that the state has got to an index.
func (t *tracker) applied(at kv.Index) {
	defer t.lock()()
	t.appliedAt = time.Now()
	if t.s.Newest <= at {
		t.clear(time.Time{})
	} else {
		t.clear(t.appliedAt)
	}
}

// level notes that there is nothing to apply.
func (t *tracker) level() {
	defer t.lock()()
	t.clear(time.Time{})
}

func (t *tracker) clear(stuck time.Time) { t.s.Err, t.local, t.stuck = nil, false, stuck }

// lastApplied is when changes were last applied; the start where none were yet.
func (t *tracker) lastApplied() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.appliedAt
}

// served is for how long the present master was followed.
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

// stuckFor is for how long nothing was applied although there is something to apply.
func (t *tracker) stuckFor() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stuck.IsZero() {
		return 0
	}
	return time.Since(t.stuck)
}

// Status reports where the puller stands; it does not wait for anything.
func (p *Puller) Status() Status {
	t := &p.status
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.Mode = p.opts.Mode
	_, s.Applied = p.opts.State.Position()
	s.LagChanges = max(s.Newest, s.Applied) - s.Applied
	s.Age = p.opts.State.Age()
	s.Met = !t.contact.IsZero()
	last := t.begun
	if s.Met {
		last = t.contact
	}
	s.Contact = time.Since(last)
	if s.Phase == Bootstrapping {
		s.Snapshot.Since = time.Since(t.loading)
	}
	if t.kept != nil {
		s.Kept = t.kept.reason
	}
	return s
}

// quietIntervals is after how many poll intervals without contact, or without progress
// where there is something to apply, a slave is not healthy any more.
const quietIntervals = 10

// minStuck is the least time without progress that counts: applying what has gathered
// takes a while on a slow disk, however short the interval.
const minStuck = 5 * time.Second

// Healthy returns why the copy should not be read from; nil where it may.
func (p *Puller) Healthy() error {
	s := p.Status()
	id, _ := p.opts.State.Position()
	failure, stuck := p.opts.State.Failure(), p.status.stuckFor()
	switch limit := quietIntervals * p.opts.PollInterval; {
	case failure != nil:
		return fmt.Errorf("vBucket %s can apply nothing more: %w", p.opts.VBucket, failure)
	case s.Kept != "":
		return errors.New(s.Kept)
	case s.Phase == Bootstrapping:
		return fmt.Errorf("vBucket %s is bootstrapping from %s: %d MiB of about %d", p.opts.VBucket, s.Master, s.Snapshot.Bytes>>20, s.Snapshot.Size>>20)
	case id.History == "":
		return fmt.Errorf("vBucket %s has no data yet", p.opts.VBucket)
	case !s.Met:
		return fmt.Errorf("vBucket %s has not met a master since the start", p.opts.VBucket)
	case s.Contact > limit:
		return fmt.Errorf("vBucket %s has heard of no master for %v, and %v is the limit", p.opts.VBucket, s.Contact.Round(time.Second), limit)
	case s.LagChanges > 0 && stuck > max(limit, minStuck) && s.Err != nil:
		return fmt.Errorf("vBucket %s is %d changes behind and has applied nothing for %v: %w", p.opts.VBucket, s.LagChanges, stuck.Round(time.Second), s.Err)
	case s.LagChanges > 0 && stuck > max(limit, minStuck):
		return fmt.Errorf("vBucket %s is %d changes behind and has applied nothing for %v", p.opts.VBucket, s.LagChanges, stuck.Round(time.Second))
	case s.LagChanges > p.opts.MaxActiveLag:
		return fmt.Errorf("vBucket %s is %d changes behind, and %d is the limit", p.opts.VBucket, s.LagChanges, p.opts.MaxActiveLag)
	}
	return nil
}
