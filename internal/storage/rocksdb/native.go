package rocksdb

// #cgo CXXFLAGS: -std=c++17
// #cgo LDFLAGS: -lrocksdb -pthread -lstdc++ -ldl -lm -lzstd -llz4 -lz -lsnappy
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
	"reflect"
	"runtime"
	"unsafe"

	"github.com/linxGnu/grocksdb"
)

// handle returns the C object that an object of the binding wraps. The binding
// does not export it; every one of its types keeps it in a field named c, which
// TestBindingHandles holds it to.
func handle(binding any) unsafe.Pointer {
	return reflect.ValueOf(binding).Elem().FieldByName("c").UnsafePointer()
}

// newNative gives the shim access to an open database.
func newNative(db *grocksdb.DB, families grocksdb.ColumnFamilyHandles) *C.dkv_db {
	handles := make([]*C.rocksdb_column_family_handle_t, len(families))
	for i, cf := range families {
		handles[i] = (*C.rocksdb_column_family_handle_t)(handle(cf))
	}
	native := C.dkv_db_new((*C.rocksdb_t)(handle(db)), &handles[0], C.size_t(len(handles)))
	runtime.KeepAlive(db)
	runtime.KeepAlive(families)
	return native
}

// bytesPointer is the address of p's first byte, or nil where there is none.
func bytesPointer(p []byte) *C.char { return (*C.char)(unsafe.Pointer(unsafe.SliceData(p))) }
