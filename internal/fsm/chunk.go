package fsm

import (
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// recordOverhead is what a record takes at most beyond its key and its value.
const recordOverhead = 1 + 2*binary.MaxVarintLen32

// A position in a state names the record that a stretch begins with: its space
// (1 byte) and its key. Positions are of one view only.

// Chunk returns the stretch of the state that begins at a position (nil: at the
// beginning): the payload of a snapshot chunk of at most limit bytes, but always
// one record. next is the position behind it,
// and nil where it was the last. The same view and arguments give the same bytes
// every time. A position that is not one of this view is a kv.Invalid.
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
	return kv.Errorf(kv.Invalid, "%.20x is no position in this snapshot; begin a new one", from)
}

// chunk is a payload that is being filled.
type chunk struct {
	payload []byte
	// from is the position to begin at; nil once that is behind.
	from  []byte
	limit int
	// next is the position of the first record that did not fit.
	next []byte
}

// space appends the records of a space, until the chunk is full.
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
		if space == storage.Meta && string(key) == string(keyFloor) {
			continue // the changelog stays behind, and its floor with it
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

// add appends one record, unless the chunk is too full for it.
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
