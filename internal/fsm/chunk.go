package fsm

import (
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// recordOverhead is how many bytes a record has beyond its key and its value at most.
const recordOverhead = 1 + 2*binary.MaxVarintLen32

// A chunk is a sequence of records, and a record is
//
//	space (1 byte), key, value
//
// with the lengths of key and value, as varints, before them. A position names the record
// that a chunk begins with, by its space (1 byte) and its key. It is valid in one view only.

// Chunk returns the part of the state that begins at a position (nil: at the beginning), as
// records of at most limit bytes, but always one record. next is the position of the chunk
// after it, and nil if it is the last. The same view and arguments always give the same
// bytes. The error is a kv.Invalid if from is not a position in this view.
func (v *View) Chunk(from []byte, limit int) (payload, next []byte, err error) {
	return v.appendChunk(make([]byte, 0, max(limit, 0)), from, limit)
}

// appendChunk appends the payload to dst.
func (v *View) appendChunk(dst, from []byte, limit int) (payload, next []byte, err error) {
	if err := v.enter(); err != nil {
		return nil, nil, err
	}
	defer v.leave()
	c := chunk{payload: dst, from: from, limit: limit}
	first := snapshotSpaces
	if len(from) > 0 {
		for len(first) > 0 && first[0] != storage.Space(from[0]) {
			first = first[1:]
		}
		if len(first) == 0 {
			return nil, nil, badPosition(from)
		}
	}
	for _, space := range first {
		if err := c.space(v.view, space); err != nil {
			return nil, nil, v.m.note(err)
		}
		if c.next != nil {
			break
		}
	}
	return c.payload, c.next, nil
}

func badPosition(from []byte) error {
	return kv.Errorf(kv.Invalid, "%.20x is not a position in this snapshot; begin a new snapshot", from)
}

// chunk is a chunk that is being filled.
type chunk struct {
	payload []byte
	// from is the position to begin at, and nil once that has been reached.
	from  []byte
	limit int
	// next is the position of the first record that did not fit.
	next []byte
}

// space appends the records of a space until the chunk is full.
func (c *chunk) space(r storage.Reader, space storage.Space) error {
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
		if !c.add(space, key, it.Value()) {
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

// add appends one record and returns true, or returns false if the chunk is too full.
func (c *chunk) add(space storage.Space, key, value []byte) bool {
	if n := len(c.payload); n > 0 && n+recordOverhead+len(key)+len(value) > c.limit {
		return false
	}
	c.payload = append(c.payload, byte(space))
	c.payload = binary.AppendUvarint(c.payload, uint64(len(key)))
	c.payload = append(c.payload, key...)
	c.payload = binary.AppendUvarint(c.payload, uint64(len(value)))
	c.payload = append(c.payload, value...)
	return true
}
