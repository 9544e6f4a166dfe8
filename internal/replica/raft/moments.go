package raft

import (
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
)

const (
	// momentsKept is how many of the last commits and batches are remembered. A proposal
	// looks its own up as soon as it is applied.
	momentsKept = 64
	// momentsOfMany bounds how many a node of many vBuckets remembers, of all of them
	// together, and fewestMoments is the least of one.
	momentsOfMany = 16 * momentsKept
	fewestMoments = 8
)

// moments are when the last entries were committed, as far as messages between members said
// so, and when they were applied. They serve the log of slow requests: noting one costs a
// reading of the clock and no lock, and what is overwritten while it is looked up is wrong.
type moments struct {
	commits, batches []moment
	// committed and applied count what was noted.
	committed, applied atomic.Uint64
}

// moment is a stretch of the log, up to an entry, and when it began and ended to be applied,
// or was known to be committed.
type moment struct {
	last         atomic.Uint64
	begun, ended atomic.Int64 // Unix nanoseconds
}

// init makes room for those of one of so many vBuckets.
func (w *moments) init(vBuckets int) {
	kept := min(max(momentsOfMany/max(vBuckets, 1), fewestMoments), momentsKept)
	w.commits, w.batches = make([]moment, kept), make([]moment, kept)
}

// commit notes that entries up to one are committed.
func (w *moments) commit(entry uint64) {
	m := &w.commits[(w.committed.Add(1)-1)%uint64(len(w.commits))]
	m.begun.Store(time.Now().UnixNano())
	m.last.Store(entry)
}

// apply notes a batch that ends with an entry.
func (w *moments) apply(entry uint64, begun, ended time.Time) {
	m := &w.batches[w.applied.Load()%uint64(len(w.batches))]
	m.begun.Store(begun.UnixNano())
	m.ended.Store(ended.UnixNano())
	m.last.Store(entry)
	w.applied.Add(1)
}

// covering returns the oldest moment that covers an entry, of those noted; nil if none does.
func covering(ring []moment, noted, entry uint64) (found *moment) {
	kept := uint64(len(ring))
	for n := noted; n > 0 && noted-n < kept; n-- {
		m := &ring[(n-1)%kept]
		if m.last.Load() < entry {
			break
		}
		found = m
	}
	return found
}

// trace adds the phases of a proposal that was appended at a time and is now applied as an
// entry. What is not remembered counts as commit.
func (w *moments) trace(t *kv.Trace, proposed time.Time, entry uint64) {
	if t == nil {
		return
	}
	batch := covering(w.batches, w.applied.Load(), entry)
	if batch == nil {
		t.Since(kv.Commit, proposed)
		return
	}
	begun, ended := time.Unix(0, batch.begun.Load()), time.Unix(0, batch.ended.Load())
	if begun.Before(proposed) { // the result is that of an earlier attempt
		t.Since(kv.Commit, proposed)
		return
	}
	committed := begun
	if c := covering(w.commits, w.committed.Load(), entry); c != nil {
		if at := time.Unix(0, c.begun.Load()); at.After(proposed) && at.Before(begun) {
			committed = at
		}
	}
	t.Add(kv.Commit, proposed, committed)
	t.Add(kv.ApplyWait, committed, begun)
	t.Add(kv.Apply, begun, ended)
}
