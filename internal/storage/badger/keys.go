package badger

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/storage"
)

// Badger has one keyspace. Its keys are ours behind one byte:
//
//	2*space+1         key          the value, or the head of a value in parts
//	2*space+1 | 0x80  key part     a part; its number in 4 bytes, big endian
//
// The even bytes are left free, so that the one after a space's own byte is a
// bound that no key has.
//
// The head of a value in parts is marked by userMeta and holds the length of
// the value in 8 bytes, big endian. Parts that no head needs any more are
// garbage without further meaning.
const (
	partFlag = 0x80
	// maxInline is the length of the longest value that is stored whole, and
	// of all but the last part of a longer one.
	maxInline = 512 << 10

	metaInParts = 0x01
)

func spaceByte(s storage.Space) byte { return byte(s)<<1 | 1 }

// appendKey appends the stored form of key to dst.
func appendKey(dst []byte, s storage.Space, key []byte) []byte {
	return append(append(dst, spaceByte(s)), key...)
}

// appendPartKey appends the stored key of a part of the value of stored.
func appendPartKey(dst, stored []byte, part int) []byte {
	at := len(dst)
	dst = append(dst, stored...)
	dst[at] |= partFlag
	return binary.BigEndian.AppendUint32(dst, uint32(part))
}

// partsOf is how many parts a value of n bytes has; 0 means that it is whole.
func partsOf(n int) int {
	if n <= maxInline {
		return 0
	}
	return (n + maxInline - 1) / maxInline
}

// partOf cuts part number i out of value.
func partOf(value []byte, i int) []byte {
	return value[i*maxInline : min(len(value), (i+1)*maxInline)]
}

// headOf makes the head of a value of n bytes.
func headOf(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// parseHead returns the length of the value that head stands for.
func parseHead(head []byte) (int, error) {
	if len(head) != 8 {
		return 0, fmt.Errorf("%w: head of a value in parts has %d bytes", storage.ErrCorrupt, len(head))
	}
	n := binary.BigEndian.Uint64(head)
	if n <= maxInline || n > MaxBatchBytes {
		return 0, fmt.Errorf("%w: value in parts of %d bytes", storage.ErrCorrupt, n)
	}
	return int(n), nil
}

// span is a range of stored keys.
type span struct {
	start, end []byte
	// prefix begins every key of the span; Badger passes over the tables that
	// have none such.
	prefix []byte
}

// spanOf translates a range of keys of a space.
func spanOf(s storage.Space, r storage.Range) span {
	sp := span{start: appendKey(nil, s, r.Start)}
	if r.End == nil {
		sp.end = []byte{spaceByte(s) + 1}
		sp.prefix = sp.start[:1]
	} else {
		sp.end = appendKey(nil, s, r.End)
		sp.prefix = commonPrefix(sp.start, sp.end)
	}
	switch {
	case r.Reverse:
		// Badger seeks backwards from end, which need not have the prefix of
		// the keys before it, and stops at a key without.
		sp.prefix = sp.start[:1]
	case string(storage.PrefixEnd(sp.start)) == string(sp.end):
		sp.prefix = sp.start
	}
	return sp
}

func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}
