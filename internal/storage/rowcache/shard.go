package rowcache

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	// A bucket is a line of the processor's cache: the slots that a row can be in.
	bucketSlots = 8
	slotBytes   = 8
	bucketBytes = bucketSlots * slotBytes

	// A slot has the place of a row, in units of align, above the low bits of its hash.
	tagBits = 16
	align   = 8

	// A row has the engine's number, the lengths of key and value, and both.
	rowHeader = 16

	// maxRow bounds a row, and so does a part of the ring: large values gain little, and push many out.
	maxRow      = 16 << 10
	maxRowShare = 8
)

// shard is a part of the cache with a lock of its own.
type shard struct {
	mu sync.Mutex
	// writing is how many writes of the shard's keys are under way, version how many have begun: see
	// the rules in the package comment.
	writing int
	version uint64

	table []byte
	ring  []byte
	// head is where the next row begins. It only grows; its remainder is the place in the ring.
	head uint64
	// counted is the part of the ring that is counted in filled, which is the cache's.
	counted uint64
	filled  *atomic.Uint64
	_       [32]byte // shards share no line of the processor's cache
}

// there reports whether the row at a place has not been overwritten.
func (s *shard) there(at uint64) bool { return at != 0 && s.head <= at+uint64(len(s.ring)) }

// bucket is where the row of a key with that hash can be. The hash's low bits are the tag, and
// those above it chose the shard.
func (s *shard) bucket(hash uint64) []byte {
	buckets := uint64(len(s.table) / bucketBytes)
	i := hash >> (tagBits + shardBits) & (buckets - 1) * bucketBytes
	return s.table[i : i+bucketBytes : i+bucketBytes]
}

const shardBits = 8

const _ = uint(1<<shardBits - maxShards)

// place is what a slot says: where its row begins.
func place(slot []byte) uint64 { return binary.LittleEndian.Uint64(slot) >> tagBits * align }

// find returns the slot of an engine's row, and the row's value; nil if there is none.
func (s *shard) find(hash, engine uint64, key []byte) (slot, value []byte) {
	b := s.bucket(hash)
	for i := 0; i < bucketBytes; i += slotBytes {
		slot := b[i : i+slotBytes]
		if binary.LittleEndian.Uint16(slot) != uint16(hash) {
			continue
		}
		at := place(slot)
		if !s.there(at) {
			continue
		}
		row := s.ring[at%uint64(len(s.ring)):]
		keyLen := uint64(binary.LittleEndian.Uint32(row[8:]))
		if binary.LittleEndian.Uint64(row) != engine || keyLen != uint64(len(key)) || !bytes.Equal(row[rowHeader:rowHeader+keyLen], key) {
			continue
		}
		from := rowHeader + keyLen
		return slot, row[from : from+uint64(binary.LittleEndian.Uint32(row[12:]))]
	}
	return nil, nil
}

// old reports whether the row of a slot is among the oldest.
func (s *shard) old(slot []byte) bool { return s.head-place(slot) > uint64(len(s.ring))/4*3 }

func remove(slot []byte) { clear(slot) }

// add writes a row over the oldest ones. The key must not have a row of the engine.
func (s *shard) add(hash, engine uint64, key, value []byte) {
	size := (uint64(rowHeader+len(key)+len(value)) + align - 1) &^ (align - 1)
	ring := uint64(len(s.ring))
	if size > min(maxRow, ring/maxRowShare) {
		return
	}
	if left := ring - s.head%ring; left < size {
		s.head += left // a row is in one piece
	}
	at := s.head
	row := s.ring[at%ring:]
	s.head += size
	if used := min(s.head, ring); used > s.counted {
		s.filled.Add(used - s.counted)
		s.counted = used
	}
	binary.LittleEndian.PutUint64(row, engine)
	binary.LittleEndian.PutUint32(row[8:], uint32(len(key)))
	binary.LittleEndian.PutUint32(row[12:], uint32(len(value)))
	copy(row[rowHeader:], key)
	copy(row[rowHeader+len(key):], value)
	binary.LittleEndian.PutUint64(s.slot(hash), at/align<<tagBits|hash&(1<<tagBits-1))
}

// slot returns the slot for a new row: one that is free, or that of the oldest row.
func (s *shard) slot(hash uint64) []byte {
	b := s.bucket(hash)
	oldest := b[:slotBytes]
	for i := 0; i < bucketBytes; i += slotBytes {
		slot := b[i : i+slotBytes]
		if !s.there(place(slot)) {
			return slot
		}
		if place(slot) < place(oldest) {
			oldest = slot
		}
	}
	return oldest
}
