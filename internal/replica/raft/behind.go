package raft

import (
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// behind is why a replica cannot catch up with the log.
type behind struct {
	mu    sync.Mutex
	why   error
	since time.Time
}

// behindFor is for how long a reason that was not found again counts: the leader offers a
// snapshot again within some seconds.
const behindFor = time.Minute

// say notes why. It is logged once, not each time that it is found again.
func (b *behind) say(r *Replica, why error) {
	b.mu.Lock()
	first := b.current() == nil
	b.why, b.since = why, time.Now()
	b.mu.Unlock()
	if first {
		r.opts.Log.Error("this replica cannot catch up", "vbucket", r.opts.VBucket, "error", why)
	}
}

func (b *behind) end(r *Replica) {
	b.mu.Lock()
	was := b.current()
	b.why = nil
	b.mu.Unlock()
	if was != nil {
		r.opts.Log.Info("there is room for a snapshot now; the replica catches up", "vbucket", r.opts.VBucket)
	}
}

// current returns why; nil if nothing keeps the replica from catching up. The caller
// holds mu.
func (b *behind) current() error {
	if b.why != nil && time.Since(b.since) > behindFor {
		b.why = nil
	}
	return b.why
}

// Behind returns why this replica cannot catch up with the log; nil if nothing is known to
// keep it from that.
func (r *Replica) Behind() error {
	r.behind.mu.Lock()
	defer r.behind.mu.Unlock()
	return r.behind.current()
}

// awaited is the room that a replica that has failed for lack of space needs before it can
// continue.
type awaited struct {
	mu    sync.Mutex
	guard *diskspace.Guard
	bytes uint64
}

// fits asks a guard for room, and remembers it if there is none.
func (a *awaited) fits(guard *diskspace.Guard, bytes uint64) error {
	err := guard.Fits(bytes)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guard, a.bytes = nil, 0; err != nil {
		a.guard, a.bytes = guard, bytes
	}
	return err
}

// there returns an error while there is less room than was asked for.
func (a *awaited) there() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guard.Fits(a.bytes)
}
