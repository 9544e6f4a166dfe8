// Package changelog keeps the change records of a vBucket: what each log entry changed, under
// the entry's index. Slaves and watchers of changes read them.
//
// The rules:
//
//   - A record is written in the same engine batch as the data that it describes. After a
//     crash both are there or neither is, so that a slave never misses a change and never
//     gets one that its master has lost.
//   - A record holds what the entry changed in fact: puts and deletes, with the expiry of
//     each key. A compare-and-set that did not match changes nothing and has no record, and
//     an increment is a put. Slaves decide nothing.
//   - Records are trimmed from the old end only, so that what is retained has no gaps. The
//     first index that is retained is the floor, which package fsm keeps; a slave that asks
//     for an earlier change has to start over from a snapshot.
//   - Trimming is local: each replica has its own retention, and the changelog is not part
//     of the state that replicas compare.
package changelog

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A record is stored under its index, 8 bytes big endian:
//
//	version  1 byte: 2 for a record with a request, else 1
//	clock    varint
//	total    varint: bytes of all records ever written, this one included
//	[client (8 bytes), sequence, acked, fingerprint (8 bytes), code (1 byte), counter]  version 2
//	mutations as in package command
//
// With the running total, the size of any part of the log is the difference of two records,
// and no counter has to be stored with them. The total is a part of the state that replicas
// compare, so it counts keys and mutations only, as every release does.
const (
	recordVersion1 = 1
	recordVersion2 = 2
)

// Key returns the key of index in storage.Changelog.
func Key(index kv.Index) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// Writer adds records to batches. It is not safe for concurrent use.
type Writer struct {
	key    [8]byte
	header []byte
	body   []byte
}

// Append adds c to b. total is the running total before c. Append returns the new one.
func (w *Writer) Append(b *storage.Batch, c kv.Change, total uint64) uint64 {
	binary.BigEndian.PutUint64(w.key[:], c.Index)
	w.body = command.AppendMutations(w.body[:0], c.Mutations)
	total += uint64(len(w.key) + len(w.body))
	version := byte(recordVersion1)
	if c.Request != nil {
		version = recordVersion2
	}
	w.header = append(w.header[:0], version)
	w.header = binary.AppendUvarint(w.header, uint64(c.Clock))
	w.header = binary.AppendUvarint(w.header, total)
	if c.Request != nil {
		w.header = appendRequest(w.header, c.Request)
	}
	b.Put(storage.Changelog, w.key[:], w.header, w.body)
	return total
}

type record struct {
	index kv.Index
	clock kv.Clock
	total uint64
	// size is what the record added to total.
	size uint64
	// request is that of version 2.
	request kv.ChangeRequest
	body    []byte
}

func decode(key, value []byte) (record, error) {
	bad := func(what string) (record, error) {
		return record{}, fmt.Errorf("%w: change record %x: %s", storage.ErrCorrupt, key, what)
	}
	if len(key) != 8 {
		return bad("key length")
	}
	switch {
	case len(value) == 0 || value[0] == 0:
		return bad("no format")
	case value[0] > recordVersion2:
		return record{}, storage.Newer(fmt.Sprintf("change record %x", key), uint64(value[0]), recordVersion2)
	}
	p := value[1:]
	clock, n := binary.Uvarint(p)
	if n <= 0 {
		return bad("clock")
	}
	p = p[n:]
	total, n := binary.Uvarint(p)
	if n <= 0 {
		return bad("total")
	}
	body := p[n:]
	var request kv.ChangeRequest
	if value[0] >= recordVersion2 {
		var ok bool
		if request, body, ok = takeRequest(body); !ok {
			return bad("request")
		}
	}
	size := uint64(len(key) + len(body))
	if total < size {
		return bad("total")
	}
	return record{
		index: binary.BigEndian.Uint64(key),
		clock: kv.Clock(clock),
		total: total,
		size:  size,

		request: request,
		body:    body,
	}, nil
}

// Scan returns the changes from index from on, in order: at most maxChanges of them (0: no
// limit), and no more than fit into maxBytes of keys and values, but always one if there is
// one. Entries without effect have no change. The changes own their memory.
func Scan(r storage.Reader, from kv.Index, maxChanges, maxBytes int) ([]kv.Change, error) {
	it := r.Iterate(storage.Changelog, storage.Range{Start: Key(from)})
	defer it.Close()
	var changes []kv.Change
	size := 0
	for (maxChanges == 0 || len(changes) < maxChanges) && it.Next() {
		rec, err := decode(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		// One copy per record; the mutations point into it.
		ms, err := command.DecodeMutations(append([]byte(nil), rec.body...))
		if err != nil {
			return nil, fmt.Errorf("%w: change record %d: %w", storage.ErrCorrupt, rec.index, err)
		}
		size += len(rec.body) + changeOverhead + len(ms)*mutationOverhead
		if len(changes) > 0 && size > maxBytes {
			break
		}
		c := kv.Change{Index: rec.index, Clock: rec.clock, Mutations: ms}
		if !rec.request.ID.IsZero() {
			request := rec.request
			c.Request = &request
			size += RequestBytes
		}
		changes = append(changes, c)
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
	last, found, err := edge(r, storage.Range{Start: Key(floor), Reverse: true})
	if err != nil || !found {
		return floor, err
	}
	var firstErr error
	keeps := func(i int) bool {
		rec, found, err := edge(r, storage.Range{Start: Key(floor + uint64(i))})
		if err != nil {
			firstErr = err
			return true
		}
		if !found {
			return true
		}
		kept := last.total - rec.total + rec.size
		if ret.MaxBytes != 0 && kept > ret.MaxBytes && rec.index != last.index {
			return false
		}
		if ret.MaxAge == 0 || rec.clock >= now {
			return true
		}
		return uint64(now-rec.clock) <= uint64(ret.MaxAge.Milliseconds())
	}
	// Totals grow with the index, and so do clocks unless the log's clock was set back. So
	// the kept records are a tail, in which a few may be older than MaxAge.
	n := sort.Search(int(newest+1-floor), keeps)
	return floor + uint64(n), firstErr
}

// Size returns the size of the records from floor on, in bytes. r may change meanwhile.
func Size(r storage.Reader, floor kv.Index) (uint64, error) {
	first, found, err := edge(r, storage.Range{Start: Key(floor)})
	if err != nil || !found {
		return 0, err
	}
	last, found, err := edge(r, storage.Range{Start: Key(floor), Reverse: true})
	if err != nil || !found {
		return 0, err // a trim took all of them meanwhile
	}
	return last.total - first.total + first.size, nil
}

// Newest returns the index of the newest record, and whether there is one.
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

// Oldest returns the index of the first record from an index on, and whether there is one.
func Oldest(r storage.Reader, from kv.Index) (index kv.Index, found bool, err error) {
	rec, found, err := edge(r, storage.Range{Start: Key(from)})
	return rec.index, found, err
}

// Digest returns a hash of a change, without the request that caused it; never 0.
func Digest(c *kv.Change) uint64 {
	p := binary.BigEndian.AppendUint64(nil, c.Index)
	p = binary.BigEndian.AppendUint64(p, uint64(c.Clock))
	return max(xxhash.Sum64(command.AppendMutations(p, c.Mutations)), 1)
}

// DigestAt returns the Digest of the newest change up to an index, or 0 if there is none.
func DigestAt(r storage.Reader, upTo kv.Index) (uint64, error) {
	last, found, err := edge(r, storage.Range{End: Key(upTo + 1), Reverse: true})
	if err != nil || !found {
		return 0, err
	}
	changes, err := Scan(r, last.index, 1, math.MaxInt)
	if err != nil || len(changes) == 0 {
		return 0, err
	}
	return Digest(&changes[0]), nil
}

// edge returns the first record of a range, in the range's direction, without its body.
func edge(r storage.Reader, rng storage.Range) (record, bool, error) {
	it := r.Iterate(storage.Changelog, rng)
	defer it.Close()
	if !it.Next() {
		return record{}, false, it.Err()
	}
	rec, err := decode(it.Key(), it.Value())
	if err != nil {
		return record{}, false, err
	}
	rec.body = nil
	return rec, true, nil
}
