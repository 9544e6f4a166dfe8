// Package chunks carries a state from one engine to another of any kind. A chunk is a sequence
// of records, and a record is
//
//	space (1 byte), key, value
//
// with the lengths of key and value, as varints, before them. A position names the record
// that a chunk begins with, by its space (1 byte) and its key. It is valid in one pinned state
// only. Chunks have no checksum: a transfer that may damage them adds its own.
package chunks

import (
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// spaces are the spaces that a snapshot consists of, in their order. The changelog stays
// behind: the changes of the copy begin after the snapshot's index.
var spaces = []storage.Space{storage.Data, storage.Expiry, storage.Meta}

// Append appends to dst the part of the state in r that begins at a position (nil: at the
// beginning), as records of at most limit bytes, but always one record. next is the position
// of the chunk after it, and nil if it is the last. The same state and arguments always give
// the same bytes. The error is a kv.Invalid if from is not a position in r.
func Append(dst []byte, r storage.Reader, from []byte, limit int) (payload, next []byte, err error) {
	c := cut{Chunk: Chunk{Payload: dst, Limit: limit}, from: from}
	first := spaces
	if len(from) > 0 {
		for len(first) > 0 && first[0] != storage.Space(from[0]) {
			first = first[1:]
		}
		if len(first) == 0 {
			return nil, nil, badPosition(from)
		}
	}
	for _, space := range first {
		if err := c.space(r, space); err != nil {
			return nil, nil, err
		}
		if c.next != nil {
			break
		}
	}
	return c.Payload, c.next, nil
}

func badPosition(from []byte) error {
	return kv.Errorf(kv.Invalid, "%.20x is not a position in this snapshot; begin a new snapshot", from)
}

// cut is a chunk that is being filled from a state.
type cut struct {
	Chunk
	// from is the position to begin at, and nil once that has been reached.
	from []byte
	// next is the position of the first record that did not fit.
	next []byte
}

// space appends the records of a space until the chunk is full.
func (c *cut) space(r storage.Reader, space storage.Space) error {
	rng := storage.Range{Bulk: true}
	from := c.from
	if c.from = nil; len(from) > 0 {
		rng.Start = from[1:]
	}
	it := r.Iterate(space, rng)
	defer it.Close()
	for it.Next() {
		key := it.Key()
		if space == storage.Meta && string(key) == string(layout.KeyFloor) {
			continue // the changelog is not copied, and neither is its floor
		}
		if len(from) > 0 && string(key) != string(from[1:]) {
			return badPosition(from)
		}
		from = nil
		if !c.Add(space, key, it.Value()) {
			c.next = append([]byte{byte(space)}, key...)
			return nil
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if len(from) > 0 {
		return badPosition(from)
	}
	return nil
}
