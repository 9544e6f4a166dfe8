package rocksdb

// #cgo CXXFLAGS: -std=c++17
// #cgo LDFLAGS: -lrocksdb -pthread -lstdc++ -ldl -lm -lzstd -llz4 -lz -lsnappy
// #cgo linux,amd64 LDFLAGS: -Wl,--wrap=_ZN7rocksdb6crc32c6ExtendEjPKcm
// #cgo noescape dkv_write
// #cgo nocallback dkv_write
// #cgo noescape dkv_get
// #cgo nocallback dkv_get
// #cgo noescape dkv_pinned_take
// #cgo nocallback dkv_pinned_take
// #cgo noescape dkv_multi_get
// #cgo nocallback dkv_multi_get
// #cgo noescape dkv_values_take
// #cgo nocallback dkv_values_take
// #cgo noescape dkv_iter_open
// #cgo nocallback dkv_iter_open
// #cgo noescape dkv_iter_fill
// #cgo nocallback dkv_iter_fill
// #cgo noescape dkv_load_add
// #cgo nocallback dkv_load_add
// #cgo noescape dkv_stats
// #cgo nocallback dkv_stats
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// openNative opens the database in dir, in which the first column families are there.
func openNative(dir string, o *settings, there int) (*C.dkv_db, error) {
	cDir := C.CString(dir)
	defer C.free(unsafe.Pointer(cDir))
	var names [storage.Spaces]*C.char
	for i, name := range familyNames {
		names[i] = C.CString(name)
		defer C.free(unsafe.Pointer(names[i]))
	}
	opened := C.dkv_open(cDir, o.native, &names[0], C.size_t(there))
	if opened.code == C.DKV_OK {
		return opened.db, nil
	}
	defer C.free(unsafe.Pointer(opened.message))
	return nil, statusTextError(errors.New(C.GoString(opened.message)))
}

// bytesPointer is the address of p's first byte, or nil if there is none.
func bytesPointer(p []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(p))) }

// extendCRC continues a CRC-32C as RocksDB does for its log.
func extendCRC(sum uint32, p []byte) uint32 {
	return uint32(C.dkv_crc32c(C.uint32_t(sum), bytesPointer(p), C.size_t(len(p))))
}
