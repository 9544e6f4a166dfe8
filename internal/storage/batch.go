package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Batch collects mutations that an Engine writes atomically, in the order in
// which they were added: a later mutation of a key wins over an earlier one.
// The zero value is an empty batch. A Batch is not safe for concurrent use; it
// may be Reset and used again once Write has returned.
//
// It is laid out as RocksDB lays out a write batch (db/write_batch.cc there),
// because that is the one format that an engine can take over as it is, in one
// call; other engines walk it with Each:
//
//	sequence  8 bytes, zero
//	count     4 bytes, little endian
//	record*   tag, varint space, varint-prefixed key [, varint-prefixed value]
//
// Data is space 0, RocksDB's default column family, whose records carry no
// space.
type Batch struct {
	rep   []byte
	count uint32
	// spare and places are memory for Order.
	spare  []byte
	places []place
}

const (
	batchHeader = 12
	maxKept     = 4 << 20
	// maxIdle is what most batches need, and what one that may not be used for a while keeps.
	maxIdle = 1 << 20
	// maxPlaces is the largest number of mutations for which the memory of Order is kept.
	maxPlaces = 1 << 14

	tagDelete           = 0x00
	tagPut              = 0x01
	tagSpaceDelete      = 0x04
	tagSpacePut         = 0x05
	tagSpaceDeleteRange = 0x0e
	tagDeleteRange      = 0x0f
)

// Put sets key to the concatenation of value's parts. (Values are stored with
// a header in front; parts save joining the two first.)
func (b *Batch) Put(s Space, key []byte, value ...[]byte) {
	b.begin(s, tagPut, tagSpacePut)
	b.appendBytes(key)
	n := 0
	for _, part := range value {
		n += len(part)
	}
	b.rep = binary.AppendUvarint(b.rep, uint64(n))
	for _, part := range value {
		b.rep = append(b.rep, part...)
	}
}

// Delete removes key; removing an absent key does nothing.
func (b *Batch) Delete(s Space, key []byte) {
	b.begin(s, tagDelete, tagSpaceDelete)
	b.appendBytes(key)
}

// DeleteRange removes all keys from start (inclusive) to end (exclusive). Both
// must be given. A range without keys between them adds nothing to the batch:
// RocksDB would log an inverted one, then fail on it and take no more writes.
func (b *Batch) DeleteRange(s Space, start, end []byte) {
	if bytes.Compare(start, end) >= 0 {
		return
	}
	b.begin(s, tagDeleteRange, tagSpaceDeleteRange)
	b.appendBytes(start)
	b.appendBytes(end)
}

// Count is the number of mutations.
func (b *Batch) Count() int { return int(b.count) }

// Size is the number of bytes of the batch as written.
func (b *Batch) Size() int { return len(b.rep) }

// Reset empties the batch and keeps its memory, unless that has grown beyond
// what most batches need.
func (b *Batch) Reset() {
	if cap(b.rep) > maxKept {
		b.rep = nil
	}
	b.rep = b.rep[:0]
	b.count = 0
}

// Release empties the batch and keeps no more memory than most batches need: it may not be used for a
// while.
func (b *Batch) Release() {
	if cap(b.rep) > maxIdle {
		b.rep = nil
	}
	b.Reset()
}

// Rep returns the batch in the layout that the type's comment describes. It
// stays valid until the batch is changed.
func (b *Batch) Rep() []byte {
	if len(b.rep) == 0 {
		b.rep = append(b.rep, make([]byte, batchHeader)...)
	}
	binary.LittleEndian.PutUint32(b.rep[8:batchHeader], b.count)
	return b.rep
}

// BatchLimit is the most that an engine writes atomically; 0 is no limit.
type BatchLimit struct {
	// Bytes bounds Batch.Size, Ops bounds Batch.Count, in which a range delete
	// counts every key that it finds.
	Bytes, Ops int
	// Key bounds the keys of Data, in bytes.
	Key int
}

// CheckKey returns an ErrTooLarge that names a key which is beyond the limit.
func (l BatchLimit) CheckKey(key []byte) error {
	if l.Key == 0 || len(key) <= l.Key {
		return nil
	}
	const shown = 32
	return fmt.Errorf("%w: the key that begins with %.*q has %d bytes, and this engine holds keys of %d at most", ErrTooLarge, shown, key, len(key), l.Key)
}

// Allows reports whether a batch of that size is within the limit.
func (l BatchLimit) Allows(bytes, ops int) bool {
	return (l.Bytes == 0 || bytes <= l.Bytes) && (l.Ops == 0 || ops <= l.Ops)
}

// OpKind says what an Op does.
type OpKind uint8

const (
	// OpPut sets Key to Value.
	OpPut OpKind = iota
	// OpDelete removes Key.
	OpDelete
	// OpDeleteRange removes the keys from Key (inclusive) to Value (exclusive).
	OpDeleteRange
)

// Op is one mutation of a batch. Its slices point into the batch.
type Op struct {
	Kind  OpKind
	Space Space
	Key   []byte
	Value []byte
}

// Each calls yield for every mutation in order, until one returns an error,
// and returns that error.
func (b *Batch) Each(yield func(Op) error) error {
	if len(b.rep) == 0 {
		return nil
	}
	p := b.rep[batchHeader:]
	for len(p) > 0 {
		op, rest, err := nextOp(p)
		if err != nil {
			return err
		}
		if err := yield(op); err != nil {
			return err
		}
		p = rest
	}
	return nil
}

func nextOp(p []byte) (Op, []byte, error) {
	var op Op
	tag := p[0]
	p = p[1:]
	switch tag {
	case tagPut, tagSpacePut:
		op.Kind = OpPut
	case tagDelete, tagSpaceDelete:
		op.Kind = OpDelete
	case tagDeleteRange, tagSpaceDeleteRange:
		op.Kind = OpDeleteRange
	default:
		return op, nil, fmt.Errorf("%w: batch record tag %#x", ErrCorrupt, tag)
	}
	switch tag {
	case tagSpacePut, tagSpaceDelete, tagSpaceDeleteRange:
		s, n := binary.Uvarint(p)
		if n <= 0 || s >= Spaces {
			return op, nil, fmt.Errorf("%w: batch record space", ErrCorrupt)
		}
		op.Space, p = Space(s), p[n:]
	}
	var err error
	if op.Key, p, err = takeBytes(p); err != nil {
		return op, nil, err
	}
	if op.Kind != OpDelete {
		if op.Value, p, err = takeBytes(p); err != nil {
			return op, nil, err
		}
	}
	return op, p, nil
}

func takeBytes(p []byte) (val, rest []byte, err error) {
	n, w := binary.Uvarint(p)
	if w <= 0 || n > uint64(len(p)-w) {
		return nil, nil, fmt.Errorf("%w: batch record is cut short", ErrCorrupt)
	}
	return p[w : w+int(n)], p[w+int(n):], nil
}

func (b *Batch) begin(s Space, tag, spaceTag byte) {
	if len(b.rep) == 0 {
		b.rep = append(b.rep, make([]byte, batchHeader)...)
	}
	b.count++
	if s == Data {
		b.rep = append(b.rep, tag)
		return
	}
	b.rep = append(b.rep, spaceTag)
	b.rep = binary.AppendUvarint(b.rep, uint64(s))
}

func (b *Batch) appendBytes(p []byte) {
	b.rep = binary.AppendUvarint(b.rep, uint64(len(p)))
	b.rep = append(b.rep, p...)
}
