// Package report tells the owners of logs how far this slave's copies are: over one stream
// to each owner, whenever a copy has received, applied or synced more. The rules are A2 and
// P2 in the DESIGN.md of package standby.
package report

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// VBucket is a copy whose progress is reported. Its methods are safe for concurrent use.
type VBucket interface {
	// Name is the vBucket's name.
	Name() string
	// Leader is the host:port of the owner of its log; empty while unknown.
	Leader() string
	// Progress returns how far the copy is; ok is false if it may confirm nothing.
	Progress() (p Progress, ok bool)
	// Sync makes durable what was applied before.
	Sync() error
	// Want is called with what the owner at an address wants.
	Want(from string, w Wanted)
}

// Progress is up to which index of a history a copy has received all changes, has applied
// them, and has them on disk.
type Progress struct {
	History                   string
	Received, Applied, Synced kv.Index
}

// regressed reports whether p takes back what q has said.
func (p Progress) regressed(q Progress) bool {
	return p.History == q.History && (p.Received < q.Received || p.Applied < q.Applied || p.Synced < q.Synced)
}

// Wanted is what the owner of a log wants of a copy.
type Wanted struct {
	// Listed means that it waits for the copy, Sync that it waits until changes are synced.
	Listed, Sync bool
	// Owner is the owner's address, if it is another node; empty if it is this one, or if
	// it is not known.
	Owner string
}

// Options say who reports. Pool is required.
type Options struct {
	// Disk is the id of this node's disk, Address the host:port at which it serves gRPC.
	Disk, Address, DC string
	// Durable reports whether the disk keeps what is synced.
	Durable bool
	// Unfit returns why this node could not become a master although it has a disk; nil for
	// nothing. It is asked once a second for each owner. Owners wait for no node that is unfit.
	Unfit func() error
	Pool  *peer.Pool
	Log   *slog.Logger
}

// Reporter reports the progress of copies. Only Run starts goroutines.
type Reporter struct {
	opts   Options
	copies []*reported
	byName map[string]*reported

	mu    sync.Mutex
	lines map[string]*line
	// start is the random id of this start; it is another one once a copy has gone back.
	start uint64
	// moved are the copies that have moved since they were looked at.
	moved []*reported
	// wake holds a token while moved is not empty.
	wake chan struct{}
}

// reported is a copy and what was reported of it.
type reported struct {
	VBucket
	// queued means that it is in Reporter.moved; Reporter.mu guards it, and line.
	queued bool
	// line is the one to the copy's owner; nil while that is unknown.
	line *line
	// said is what was reported last under the present start; its line's goroutine uses it,
	// under mu, since lines change.
	mu   sync.Mutex
	said Progress
	// wanted is what the owner wanted last; mu guards it. heeding is held while that changes.
	wanted  Wanted
	heeding sync.Mutex
	// toSync holds a token while there may be something to sync; syncing means that a
	// goroutine waits for it, and mu guards that.
	toSync  chan struct{}
	syncing bool
}

// New makes a reporter of copies.
func New(opts Options, copies ...VBucket) *Reporter {
	r := &Reporter{
		opts:   opts,
		byName: make(map[string]*reported, len(copies)),
		lines:  make(map[string]*line),
		start:  rand.Uint64(),
		wake:   make(chan struct{}, 1),
	}
	for _, c := range copies {
		rep := &reported{VBucket: c, toSync: make(chan struct{}, 1)}
		r.copies = append(r.copies, rep)
		r.byName[c.Name()] = rep
	}
	return r
}

// Moved notes that a copy may have moved, by its position among those of New, or that its
// owner has changed. It never waits.
func (r *Reporter) Moved(i int) { r.note(r.copies[i]) }

func (r *Reporter) note(c *reported) {
	r.mu.Lock()
	if !c.queued {
		c.queued = true
		r.moved = append(r.moved, c)
	}
	r.mu.Unlock()
	raise(r.wake)
}

// raise puts a token into a channel with one slot.
func raise(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range r.copies {
		r.note(c)
	}
	for {
		select {
		case <-r.wake:
			r.dispatch(ctx, &wg)
		case <-ctx.Done():
			return
		}
	}
}

// dispatch passes the copies that have moved to the lines of their owners. What a new owner has
// said of a copy before counts from then on.
func (r *Reporter) dispatch(ctx context.Context, wg *sync.WaitGroup) {
	for _, c := range r.pass(ctx, wg) {
		r.heed(c)
	}
}

// pass is dispatch, and returns the copies that have another owner.
func (r *Reporter) pass(ctx context.Context, wg *sync.WaitGroup) (handed []*reported) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.moved {
		c.queued = false
		owner := c.Leader()
		if c.line == nil || c.line.address != owner {
			r.move(ctx, wg, c, owner)
			if c.line != nil {
				handed = append(handed, c)
			}
		}
		if c.line != nil {
			c.line.add(c)
		}
		c.mu.Lock()
		if c.wanted.Sync {
			raise(c.toSync)
		}
		c.mu.Unlock()
	}
	r.moved = r.moved[:0]
	return handed
}

// move gives a copy the line to another owner. A line without copies ends. r.mu is held.
func (r *Reporter) move(ctx context.Context, wg *sync.WaitGroup, c *reported, owner string) {
	if l := c.line; l != nil {
		if l.copies--; l.copies == 0 {
			l.end()
			delete(r.lines, l.address)
		}
		c.line = nil
	}
	if owner == "" {
		return
	}
	l := r.lines[owner]
	if l == nil {
		during, end := context.WithCancel(ctx)
		l = &line{
			Reporter: r, address: owner, end: end,
			begin: func(c *reported) { wg.Go(func() { r.keepSynced(ctx, c) }) },
			wake:  make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		}
		r.lines[owner] = l
		wg.Go(func() { l.run(during) })
	}
	if l.said[c].Owner != "" {
		delete(l.said, c) // it was not the owner then, and says something else once it is
	}
	l.copies++
	c.line = l
}

// keepSynced syncs what a copy applies while its owner wants that. All that is applied during
// one sync goes into the next one.
func (r *Reporter) keepSynced(ctx context.Context, c *reported) {
	for {
		select {
		case <-c.toSync:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		if !c.wanted.Sync {
			c.syncing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if p, ok := c.Progress(); !ok || p.Synced >= p.Applied {
			continue
		}
		if c.Sync() == nil { // an error is the storage's, which reports it
			r.note(c)
		}
	}
}

// Refused returns why an owner hears nothing of this slave although it is there; nil if all do.
func (r *Reporter) Refused() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		if l.refused != nil {
			return l.refused
		}
	}
	return nil
}

// present returns the id of this start.
func (r *Reporter) present() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.start
}

// restarted gives this start another id, since a copy has gone back: owners hold that what
// was confirmed under one start stays true. All that was said is void.
func (r *Reporter) restarted(was uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start != was {
		return // another line has noticed
	}
	r.start = rand.Uint64()
	for _, c := range r.copies {
		c.mu.Lock()
		c.said = Progress{}
		c.mu.Unlock()
	}
	for _, l := range r.lines {
		raise(l.wake)
	}
}
