package rocksdb

// #include "shim.h"
import "C"

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// The blocks that an iterator fetches grow, because many walks end after a few
// pairs and the others should cross into C seldom.
const (
	smallBlock  = 2 << 10
	mediumBlock = 16 << 10
	largeBlock  = 128 << 10
)

const pairHeader = 8

// iterator walks over pairs that it fetches from RocksDB in blocks.
type iterator struct {
	engine *Engine
	native *C.dkv_iter // nil once RocksDB has no more
	size   int         // of the block to fetch next
	unread []byte      // pairs of the block that Next has yet to pass
	key    []byte
	value  []byte
	behind error // what ended the walk in RocksDB, to report behind the block
	err    error
	closed bool

	large *[largeBlock]byte // from the engine's pool
	giant []byte            // for a pair that fits in no other
	small [smallBlock]byte
}

// Iterate implements storage.Reader.
func (r *reader) Iterate(s storage.Space, rng storage.Range) storage.Iterator {
	it := &iterator{engine: r.engine}
	if it.err = r.check(s); it.err != nil {
		return it
	}
	if rng.End != nil && bytes.Compare(rng.Start, rng.End) >= 0 {
		return it
	}
	var flags C.int
	if rng.Reverse {
		flags |= C.DKV_REVERSE
	}
	if rng.KeysOnly {
		flags |= C.DKV_KEYS_ONLY
	}
	if rng.End != nil {
		flags |= C.DKV_HAS_END
	}
	it.size = smallBlock
	if rng.Bulk {
		flags |= C.DKV_BULK
		it.size = largeBlock
	}
	buf := it.buffer()
	block := C.dkv_iter_open(r.engine.native, C.int(s), r.snapshot,
		bytesPointer(rng.Start), C.size_t(len(rng.Start)),
		bytesPointer(rng.End), C.size_t(len(rng.End)),
		flags, bytesPointer(buf), C.size_t(len(buf)))
	it.take(buf, block)
	if it.native != nil {
		r.engine.pin(it)
	}
	return it
}

// Next implements storage.Iterator.
func (it *iterator) Next() bool {
	if len(it.unread) == 0 && !it.fetch() {
		it.key, it.value = nil, nil
		return false
	}
	p := it.unread
	key := pairHeader + int(binary.NativeEndian.Uint32(p))
	end := key + int(binary.NativeEndian.Uint32(p[4:]))
	it.key = p[pairHeader:key:key]
	it.value = p[key:end:end]
	it.unread = p[end:]
	return true
}

// Key implements storage.Iterator.
func (it *iterator) Key() []byte { return it.key }

// Value implements storage.Iterator.
func (it *iterator) Value() []byte { return it.value }

// Err implements storage.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements storage.Iterator.
func (it *iterator) Close() {
	if it.closed {
		return
	}
	if it.native != nil {
		it.engine.unpin(it)
	}
	it.release()
	it.key, it.value, it.unread, it.behind = nil, nil, nil, nil
	it.closed = true
}

// invalidate implements pin.
func (it *iterator) invalidate() {
	it.release()
	it.key, it.value, it.unread, it.behind = nil, nil, nil, nil
	it.err = storage.ErrClosed
}

// release frees what RocksDB holds for the iterator, and its large block.
func (it *iterator) release() {
	if it.native != nil {
		C.dkv_iter_free(it.native)
		it.native = nil
	}
	if it.large != nil {
		it.engine.blocks.Put(it.large)
		it.large = nil
	}
	it.giant = nil
}

// fetch fills the next block and reports whether there is a pair in it.
func (it *iterator) fetch() bool {
	for it.native != nil {
		it.size = min(it.size*8, largeBlock)
		buf := it.buffer()
		it.take(buf, C.dkv_iter_fill(it.native, bytesPointer(buf), C.size_t(len(buf))))
		if it.native == nil {
			it.engine.unpin(it)
		}
		if len(it.unread) > 0 {
			return true
		}
	}
	if it.behind != nil {
		it.err, it.behind = it.behind, nil
	}
	return false
}

// take accepts what RocksDB packed into buf.
func (it *iterator) take(buf []byte, block C.dkv_block) {
	it.native = block.iter
	it.unread = buf[:int(block.used)]
	it.behind = statusError(block.code, block.message)
	if need := int(block.need); need > 0 {
		it.giant = make([]byte, max(need, largeBlock))
	}
}

// buffer is the memory for a block of it.size, or more if a pair needs it.
func (it *iterator) buffer() []byte {
	switch {
	case it.giant != nil:
		return it.giant
	case it.size <= smallBlock:
		return it.small[:]
	}
	if it.large == nil {
		it.large, _ = it.engine.blocks.Get().(*[largeBlock]byte)
		if it.large == nil {
			it.large = new([largeBlock]byte)
		}
	}
	return unsafe.Slice(&it.large[0], it.size)
}
