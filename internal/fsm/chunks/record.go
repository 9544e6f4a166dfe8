package chunks

import (
	"encoding/binary"

	"github.com/dkvdb/dkv/internal/storage"
)

// recordOverhead is how many bytes a record has beyond its key and its value at most.
const recordOverhead = 1 + 2*binary.MaxVarintLen32

// Chunk is a sequence of records that is being filled.
type Chunk struct {
	Payload []byte
	// Limit is the size of the payload in bytes, which only a single record may exceed.
	Limit int
}

// Add appends one record and returns true, or returns false if the chunk is too full.
func (c *Chunk) Add(space storage.Space, key, value []byte) bool {
	if n := len(c.Payload); n > 0 && n+recordOverhead+len(key)+len(value) > c.Limit {
		return false
	}
	c.Payload = append(c.Payload, byte(space))
	c.Payload = binary.AppendUvarint(c.Payload, uint64(len(key)))
	c.Payload = append(c.Payload, key...)
	c.Payload = binary.AppendUvarint(c.Payload, uint64(len(value)))
	c.Payload = append(c.Payload, value...)
	return true
}

// Record is a record of a chunk; its slices point into the payload.
type Record struct {
	Space      storage.Space
	Key, Value []byte
}

// Take splits the first record from the front of a payload that is not empty. ok is false if
// there is none.
func Take(payload []byte) (r Record, rest []byte, ok bool) {
	r.Space = storage.Space(payload[0])
	if r.Key, rest, ok = takeField(payload[1:]); ok {
		r.Value, rest, ok = takeField(rest)
	}
	return r, rest, ok
}

// takeField splits a byte string, which has its length before it, from the front of p.
func takeField(p []byte) (field, rest []byte, ok bool) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return p[w:end], p[end:], true
}
