package fsm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/task"
)

// Iterate iterates over the keys of r that have not expired at now. The iterator must be
// closed before the view.
func (v *View) Iterate(r storage.Range, now kv.Clock) *Iterator {
	return &Iterator{it: v.walk(storage.Data, r), now: now}
}

// walk iterates over a range of a space.
func (v *View) walk(s storage.Space, r storage.Range) viewIterator {
	if err := v.enter(); err != nil {
		return viewIterator{v: v, err: err}
	}
	defer v.leave()
	return viewIterator{v: v, it: v.view.Iterate(s, r)}
}

// viewIterator iterates over stored pairs, and copies each. When the view is revoked, the
// engine's memory may be freed while the reader still uses the last pair.
type viewIterator struct {
	v          *View
	it         storage.Iterator // nil if opening it failed with err
	key, value []byte
	err        error
}

func (i *viewIterator) next() bool {
	if i.err != nil {
		return false
	}
	if i.err = i.v.enter(); i.err != nil {
		return false
	}
	defer i.v.leave()
	if !i.it.Next() {
		i.err = i.it.Err()
		return false
	}
	i.key = append(i.key[:0], i.it.Key()...)
	i.value = append(i.value[:0], i.it.Value()...)
	return true
}

func (i *viewIterator) close() {
	if i.it == nil {
		return
	}
	if i.v.enter() == nil {
		i.it.Close()
		i.v.leave()
	} else {
		i.v.m.release(i.it)
	}
	i.it = nil
}

// Iterator iterates over live pairs; see storage.Iterator for how it is used. The pair's
// slices are valid until the next call of Next or Close.
type Iterator struct {
	it   viewIterator
	now  kv.Clock
	pair kv.Pair
	err  error
}

// Next moves to the next live pair and reports whether there is one.
func (i *Iterator) Next() bool {
	for i.err == nil && i.it.next() {
		var live bool
		i.pair, live, i.err = parsePair(i.it.key, i.it.value, i.now)
		if live {
			return true
		}
	}
	return false
}

// Pair returns the current pair.
func (i *Iterator) Pair() kv.Pair { return i.pair }

// Err returns the error that ended the iteration early, if any.
func (i *Iterator) Err() error {
	if i.err != nil {
		return i.it.v.m.note(i.err)
	}
	return i.it.v.m.note(i.it.err)
}

// Close releases the iterator.
func (i *Iterator) Close() { i.it.close() }

// ContentHash is a hash of the keyspace at one index.
type ContentHash struct {
	Index kv.Index
	// Sum is the SHA-256 of all keys, expiry times and values in key order.
	Sum  [sha256.Size]byte
	Keys uint64
}

// hashStep is how many bytes are hashed at once.
const hashStep = 256 << 10

// Hash computes the ContentHash of the view. Expired keys count until the log has removed
// them, since replicas agree on what the log says at an index and not on what a clock hides.
func (v *View) Hash(ctx context.Context) (ContentHash, error) {
	h := sha256.New()
	out := ContentHash{Index: v.Index()}
	it := v.walk(storage.Data, storage.Range{Bulk: true})
	defer it.close()
	task.Step(ctx, "hashes all keys", task.Keys, v.EstimatedKeys())
	var buf []byte
	counted := uint64(0)
	for it.next() {
		buf = binary.AppendUvarint(buf, uint64(len(it.key)))
		buf = append(buf, it.key...)
		buf = binary.AppendUvarint(buf, uint64(len(it.value)))
		buf = append(buf, it.value...)
		out.Keys++
		if len(buf) >= hashStep {
			h.Write(buf)
			buf = buf[:0]
			task.Add(ctx, out.Keys-counted)
			counted = out.Keys
			if err := ctx.Err(); err != nil {
				return out, err
			}
		}
	}
	h.Write(buf)
	h.Sum(out.Sum[:0])
	return out, v.m.note(it.err)
}
