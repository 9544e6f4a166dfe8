package rocksdb

// #include "shim.h"
import "C"

import (
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// inlineValue is the size up to which a value is read in one crossing. It is
// staged on the stack; a longer value takes a second crossing, into memory of
// its own size.
const inlineValue = 1 << 10

// reader reads one state of an engine: that of a snapshot, or the newest one
// if there is none.
type reader struct {
	engine   *Engine
	snapshot *C.dkv_snapshot
}

func (r *reader) check(s storage.Space) error {
	if r.engine.closed.Load() {
		return storage.ErrClosed
	}
	if s >= storage.Spaces {
		return errUnknownSpace
	}
	return nil
}

// Get implements storage.Reader. A row of the newest state answers without a search.
func (r *reader) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if err := r.check(s); err != nil {
		return nil, false, err
	}
	if s != storage.Data || r.snapshot != nil {
		return r.search(s, key)
	}
	return r.engine.rows.Read(key, func() ([]byte, bool, error) { return r.search(s, key) })
}

// search finds a key in the engine.
func (r *reader) search(s storage.Space, key []byte) ([]byte, bool, error) {
	var inline [inlineValue]byte
	v := C.dkv_get(r.engine.native, C.int(s), r.snapshot,
		bytesPointer(key), C.size_t(len(key)),
		(*C.char)(unsafe.Pointer(&inline[0])), inlineValue)
	switch {
	case v.code == C.DKV_NOT_FOUND:
		return nil, false, nil
	case v.code != C.DKV_OK:
		return nil, false, statusError(v.code, v.message)
	}
	value := make([]byte, int(v.size))
	if v.rest == nil {
		copy(value, inline[:])
	} else {
		C.dkv_pinned_take(v.rest, bytesPointer(value))
	}
	return value, true, nil
}

// The bound that the shim knows is that of the interface.
const _ = uint(C.DKV_MULTI_GET_BYTES-storage.MultiGetBytes) + uint(storage.MultiGetBytes-C.DKV_MULTI_GET_BYTES)

// MultiGet implements storage.Reader. The values share one allocation.
func (r *reader) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if err := r.check(s); err != nil {
		return nil, err
	}
	values := make([][]byte, len(keys))
	if len(keys) == 0 {
		return values, nil
	}
	packed, keyLens := pack(keys)
	lens := make([]C.int64_t, len(keys))
	m := C.dkv_multi_get(r.engine.native, C.int(s), r.snapshot, C.size_t(len(keys)),
		bytesPointer(packed), (*C.uint32_t)(unsafe.Pointer(&keyLens[0])), &lens[0])
	if err := statusError(m.code, m.message); err != nil {
		return nil, err
	}
	values, lens = values[:m.count], lens[:m.count]
	all := make([]byte, int(m.size))
	if m.rest != nil {
		C.dkv_values_take(m.rest, bytesPointer(all))
	}
	for i, n := range lens {
		if n < 0 {
			continue
		}
		values[i] = all[:n:n]
		all = all[n:]
	}
	return values, nil
}

// pack lays keys one behind the other.
func pack(keys [][]byte) (packed []byte, lens []uint32) {
	size := 0
	for _, k := range keys {
		size += len(k)
	}
	packed = make([]byte, 0, size)
	lens = make([]uint32, len(keys))
	for i, k := range keys {
		packed = append(packed, k...)
		lens[i] = uint32(len(k))
	}
	return packed, lens
}
