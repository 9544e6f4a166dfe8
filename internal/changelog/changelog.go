// Package changelog keeps the changes of a vBucket: what each log entry changed, under the
// entry's index. Slaves and watchers of changes read them.
//
// The rules:
//
//   - A change is written in the same engine batch as the data that it describes. After a
//     crash both are there or neither is, so that a slave never misses a change and never
//     gets one that its master has lost.
//   - A change is what the entry changed in fact: puts and deletes, with the expiry of
//     each key. A compare-and-set that did not match changes nothing and has no change, and
//     an increment is a put. Slaves decide nothing.
//   - Changes of one batch share records, since an engine pays for each record. How a batch
//     was cut is each replica's own affair, and no reader sees it.
//   - Records are trimmed from the old end only, so that what is retained has no gaps. The
//     first index that is retained is the floor, which package fsm keeps; a slave that asks
//     for an earlier change has to start over from a snapshot. A record in which the floor
//     lies is kept, and readers pass over what is below.
//   - Trimming is local: each replica has its own retention, and the changelog is not part
//     of the state that replicas compare.
package changelog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Scan returns the changes from index from on, in order: at most maxChanges of them (0: no
// limit), and no more than fit into maxBytes of keys and values, but always one if there is
// one. Entries without effect have no change. The changes own their memory.
func Scan(r storage.Reader, from kv.Index, maxChanges, maxBytes int) ([]kv.Change, error) {
	it := r.Iterate(storage.Changelog, storage.Range{Start: Key(from)})
	defer it.Close()
	var changes []kv.Change
	var entries []entry
	size := 0
	for (maxChanges == 0 || len(changes) < maxChanges) && it.Next() {
		var err error
		if entries, err = decode(entries[:0], it.Key(), it.Value()); err != nil {
			return nil, err
		}
		wanted := entries
		for wanted[0].index < from {
			wanted = wanted[1:] // the last one is not below from, since the record is not
		}
		if maxChanges != 0 {
			wanted = wanted[:min(len(wanted), maxChanges-len(changes))]
		}
		own(wanted)
		for i := range wanted {
			c, err := wanted[i].change()
			if err != nil {
				return nil, err
			}
			size += len(wanted[i].body) + changeOverhead + len(c.Mutations)*mutationOverhead
			if len(changes) > 0 && size > maxBytes {
				return changes, nil
			}
			if c.Request != nil {
				size += RequestBytes
			}
			changes = append(changes, c)
		}
	}
	return changes, it.Err()
}

// What a change and a mutation add to a message of the change stream at most, in bytes,
// beyond their encoding here.
const (
	changeOverhead   = 40
	mutationOverhead = 32
)

// Retention says how much of the changelog to keep: the records that are within both limits.
type Retention struct {
	// MaxBytes limits the size of all records together. 0 means no limit.
	MaxBytes uint64
	// MaxAge limits the age of a record by the log's clock. 0 means no limit.
	MaxAge time.Duration
}

// Floor returns the lowest index that retention keeps. newest and now are the newest index
// and the log's clock of r, and the result is at least floor, the current one. r must be one
// pinned state, since the search compares several records. The newest record is kept
// whatever its size is, but not whatever its age is.
func Floor(r storage.Reader, ret Retention, floor, newest kv.Index, now kv.Clock) (kv.Index, error) {
	last, found, err := lastFrom(r, floor)
	if err != nil || !found {
		return floor, err
	}
	var firstErr error
	keeps := func(i int) bool {
		first, found, err := firstFrom(r, floor+uint64(i))
		if err != nil {
			firstErr = err
			return true
		}
		if !found {
			return true
		}
		kept := last.total - first.total + first.size
		if ret.MaxBytes != 0 && kept > ret.MaxBytes && first.index != last.index {
			return false
		}
		if ret.MaxAge == 0 || first.clock >= now {
			return true
		}
		return uint64(now-first.clock) <= uint64(ret.MaxAge.Milliseconds())
	}
	// Totals grow with the index, and so do clocks unless the log's clock was set back. So
	// the kept records are a tail, in which a few may be older than MaxAge.
	n := sort.Search(int(newest+1-floor), keeps)
	return floor + uint64(n), firstErr
}

// Size returns the size of the records from floor on, in bytes. r may change meanwhile.
func Size(r storage.Reader, floor kv.Index) (uint64, error) {
	first, found, err := firstFrom(r, floor)
	if err != nil || !found {
		return 0, err
	}
	last, found, err := lastFrom(r, floor)
	if err != nil || !found {
		return 0, err // a trim took all of them meanwhile
	}
	return last.total - first.total + first.size, nil
}

// Newest returns the index of the newest change, and whether there is one.
func Newest(r storage.Reader) (index kv.Index, found bool, err error) {
	it := r.Iterate(storage.Changelog, storage.Range{Reverse: true, KeysOnly: true})
	defer it.Close()
	if !it.Next() {
		return 0, false, it.Err()
	}
	if len(it.Key()) != 8 {
		return 0, false, fmt.Errorf("%w: change record %x", storage.ErrCorrupt, it.Key())
	}
	return binary.BigEndian.Uint64(it.Key()), true, nil
}

// Oldest returns the index of the first change from an index on, and whether there is one.
func Oldest(r storage.Reader, from kv.Index) (index kv.Index, found bool, err error) {
	first, found, err := firstFrom(r, from)
	return first.index, found, err
}

// Digest returns a hash of a change, without the request that caused it; never 0.
func Digest(c *kv.Change) uint64 {
	p := binary.BigEndian.AppendUint64(nil, c.Index)
	p = binary.BigEndian.AppendUint64(p, uint64(c.Clock))
	return max(xxhash.Sum64(command.AppendMutations(p, c.Mutations)), 1)
}

// DigestAt returns the Digest of the newest change up to an index, or 0 if there is none.
func DigestAt(r storage.Reader, upTo kv.Index) (uint64, error) {
	last, found, err := lastUpTo(r, upTo)
	if err != nil || !found {
		return 0, err
	}
	c, err := last.change()
	if err != nil {
		return 0, err
	}
	return Digest(&c), nil
}

// firstFrom returns the first change from an index on, without its mutations.
func firstFrom(r storage.Reader, from kv.Index) (entry, bool, error) {
	return pick(r, storage.Range{Start: Key(from)}, func(entries []entry) (entry, bool) {
		i := slices.IndexFunc(entries, func(e entry) bool { return e.index >= from })
		return entries[i].head(), true // the last one is not below from, since the record is not
	})
}

// lastFrom returns the last change, if that is from an index on, without its mutations.
func lastFrom(r storage.Reader, from kv.Index) (entry, bool, error) {
	return pick(r, storage.Range{Start: Key(from), Reverse: true}, func(entries []entry) (entry, bool) {
		return entries[len(entries)-1].head(), true
	})
}

// lastUpTo returns the last change up to an index: it is in the record in which the index lies, or it
// is the last one of the record before.
func lastUpTo(r storage.Reader, upTo kv.Index) (last entry, found bool, err error) {
	for _, rng := range []storage.Range{{Start: Key(upTo)}, {End: Key(upTo), Reverse: true}} {
		last, found, err = pick(r, rng, func(entries []entry) (entry, bool) {
			for _, e := range slices.Backward(entries) {
				if e.index <= upTo {
					return e, true
				}
			}
			return entry{}, false
		})
		if err != nil || found {
			return last, found, err
		}
	}
	return entry{}, false, nil
}

// pick returns what choose takes from the first record of a range, in the range's direction.
func pick(r storage.Reader, rng storage.Range, choose func([]entry) (entry, bool)) (e entry, found bool, err error) {
	it := r.Iterate(storage.Changelog, rng)
	defer it.Close()
	if !it.Next() {
		return entry{}, false, it.Err()
	}
	entries, err := decode(nil, it.Key(), it.Value())
	if err != nil {
		return entry{}, false, err
	}
	e, found = choose(entries)
	e.body = bytes.Clone(e.body)
	return e, found, nil
}
