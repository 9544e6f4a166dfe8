// Package storage says what DKV needs of a storage engine: ordered byte
// strings in a few named spaces, atomic batches, consistent views and
// checkpoints. An engine knows nothing of keys that expire, of logs or of
// clocks; all of that is fsm's. Engines live in the sub-packages, and
// enginetest holds every one of them to the same behaviour.
package storage

import (
	"bytes"
	"context"
	"time"

	"github.com/dkvdb/dkv/internal/histogram"
)

// Space is one of the ordered keyspaces of an engine: a column family, in an
// engine that has them. The numbers are stored on disk: never reuse one.
type Space uint8

const (
	// Data holds the user's keys.
	Data Space = iota
	// Expiry indexes the keys that will expire, ordered by time.
	Expiry
	// Changelog holds the change records, ordered by log index.
	Changelog
	// Meta holds what the state machine knows about itself.
	Meta
	// Spaces is how many there are.
	Spaces = iota
)

func (s Space) String() string {
	switch s {
	case Data:
		return "data"
	case Expiry:
		return "expiry"
	case Changelog:
		return "changelog"
	case Meta:
		return "meta"
	default:
		return "unknown"
	}
}

// MultiGetBytes bounds what a MultiGet reads: a few kilobytes of keys may name
// more than the memory holds. It exceeds this by less than one value.
const MultiGetBytes = 4 << 20

// Reader reads one state of an engine. All methods are safe for concurrent
// use. Key and value slices that are returned belong to the caller, unless a
// method says otherwise; slices passed in are not kept.
type Reader interface {
	// Get returns the value of key, and whether it is there. The value of a
	// present key is never nil.
	Get(s Space, key []byte) (value []byte, found bool, err error)
	// MultiGet returns a value for each key, in order; nil if the key is
	// absent. All are read from one state. Once the values have more than
	// MultiGetBytes it reads no further ones: there are fewer values than keys
	// then, but one at least.
	MultiGet(s Space, keys [][]byte) ([][]byte, error)
	// Iterate walks the keys of r in order. The iterator sees one state: the
	// one at the time of the call.
	Iterate(s Space, r Range) Iterator
}

// Engine is an open store. After Close every method returns ErrClosed;
// callers make sure that none runs while Close does.
type Engine interface {
	Reader
	// Kind names the engine as the db-engine setting does: "rocksdb",
	// "badger" or "memory".
	Kind() string
	// Write applies b atomically. With sync it returns once b would survive a
	// power failure, and b becomes visible to readers no earlier; without it,
	// a crash may lose b and whatever was written after it, never a part of b.
	// After an error b may or may not be there when the engine is reopened.
	Write(b *Batch, sync bool) error
	// Sync makes everything written before it durable.
	Sync() error
	// NewView pins the present state until the view is closed.
	NewView() (View, error)
	// Checkpoint writes a consistent copy of the present state into dir, which
	// must not exist, durably, while reads and writes continue. Opening dir with
	// an engine of the same kind yields that state.
	Checkpoint(dir string) error
	// Verify reads all sorted files from end to end, past the caches, and
	// compares checksums. It returns ErrCorrupt for damage, which a checkpoint
	// would copy. It takes as long as reading the disk does.
	Verify(ctx context.Context) error
	// Stats reports sizes; it is cheap enough for a metrics scrape.
	Stats() Stats
	// Close flushes and releases everything. It is idempotent.
	Close() error
}

// Encrypting is an Engine that may encrypt what it stores.
type Encrypting interface {
	// Encrypted reports whether it does, and its checkpoints as well.
	Encrypted() bool
}

// Encrypted reports whether an engine encrypts what it stores.
func Encrypted(e Engine) bool {
	x, ok := e.(Encrypting)
	return ok && x.Encrypted()
}

// Flusher is an Engine that can write its memtables into files on request, which
// frees the space that their log takes.
type Flusher interface {
	Flush() error
}

// View is a pinned, consistent state.
type View interface {
	Reader
	// Close releases the state. It is idempotent.
	Close()
}

// Iterator walks over pairs. It starts before the first one:
//
//	it := r.Iterate(storage.Data, storage.Prefix(p))
//	defer it.Close()
//	for it.Next() {
//		use(it.Key(), it.Value())
//	}
//	return it.Err()
//
// An Iterator is not safe for concurrent use.
type Iterator interface {
	// Next moves to the next pair and reports whether there is one.
	Next() bool
	// Key is valid until the next call of Next or Close.
	Key() []byte
	// Value is valid until the next call of Next or Close.
	Value() []byte
	// Err returns what ended the walk early, if anything did.
	Err() error
	// Close is idempotent.
	Close()
}

// Range is a set of neighbouring keys and the direction to walk them in.
type Range struct {
	// Start is the least key of the range; nil means from the first.
	Start []byte
	// End is the least key behind the range; nil means to the last.
	End []byte
	// Reverse walks from the greatest key to the least.
	Reverse bool
	// KeysOnly promises that Value will not be called.
	KeysOnly bool
	// Bulk hints at a walk over much data that is read once, such as a
	// snapshot: it should not displace what the cache holds.
	Bulk bool
}

// Contains reports whether key lies in r.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(key, r.Start) >= 0 && (r.End == nil || bytes.Compare(key, r.End) < 0)
}

// Prefix is the range of all keys that begin with p.
func Prefix(p []byte) Range { return Range{Start: p, End: PrefixEnd(p)} }

// PrefixEnd returns the least key greater than all that begin with p, or nil
// if there is none (p is empty or all 0xff).
func PrefixEnd(p []byte) []byte {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i] != 0xff {
			end := bytes.Clone(p[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}

// Stats are an engine's sizes. A figure that the engine does not have is 0.
type Stats struct {
	// MemtableBytes is the memory of writes not yet in sorted files.
	MemtableBytes uint64
	// CacheBytes is the memory of cached blocks.
	CacheBytes uint64
	// RowCacheBytes is the memory of whole pairs that were read.
	RowCacheBytes uint64
	// SSTFiles counts the sorted files.
	SSTFiles uint64
	// DiskBytes is the size of all live files.
	DiskBytes uint64
	// PendingCompactionBytes is how much compaction is behind.
	PendingCompactionBytes uint64
	// CompactionTime is the total time spent compacting since open.
	CompactionTime time.Duration
	// Compactions is how many there were in that time.
	Compactions uint64
	// EstimatedKeys estimates the number of keys in Data.
	EstimatedKeys uint64
	// ByLevel are the sorted files by level; those of deeper levels count to the last.
	ByLevel [Levels]Level
	// WriteStopped reports whether writers wait now until memtables or files are fewer.
	WriteStopped bool
	// Counted is what happened since the engine was opened.
	Counted Counted
}

// Levels is how many levels of sorted files are told apart.
const Levels = 7

// Level is the sorted files of a level.
type Level struct{ Files, Bytes uint64 }

// Counted is what an engine counts while it works. A figure that the engine does not
// count is 0.
type Counted struct {
	// CacheHits and CacheMisses are lookups of blocks in the cache.
	CacheHits, CacheMisses uint64
	// RowHits and RowMisses are reads of keys that a row cache answered, and that it did not.
	RowHits, RowMisses uint64
	// FilterSkipped are reads of a sorted file that its filter made unnecessary.
	// FilterPassed are those that it allowed, FilterFound those of them that found the key.
	FilterSkipped, FilterPassed, FilterFound uint64
	// StallTime is for how long writers were slowed down or stopped, together.
	StallTime time.Duration
	// Syncs is how long fsyncs of the write-ahead log took.
	Syncs histogram.Counts
}

// MemtableSizer is an Engine that can return Stats.MemtableBytes without computing
// the other figures, cheaply enough for several times a second.
type MemtableSizer interface {
	MemtableBytes() uint64
}
