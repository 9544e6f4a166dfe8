package rocksdb

// #include "shim.h"
import "C"

import (
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/storage"
)

// view is a state pinned by a RocksDB snapshot.
type view struct {
	reader
	closed atomic.Bool
}

// NewView implements storage.Engine.
func (e *Engine) NewView() (storage.View, error) {
	if e.closed.Load() {
		return nil, storage.ErrClosed
	}
	v := &view{reader: reader{engine: e, snapshot: C.dkv_snapshot_new(e.native)}}
	e.pin(v)
	return v, nil
}

// Get implements storage.Reader.
func (v *view) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if v.closed.Load() {
		return nil, false, storage.ErrClosed
	}
	return v.reader.Get(s, key)
}

// MultiGet implements storage.Reader.
func (v *view) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if v.closed.Load() {
		return nil, storage.ErrClosed
	}
	return v.reader.MultiGet(s, keys)
}

// Iterate implements storage.Reader. The iterator may outlive the view.
func (v *view) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	if v.closed.Load() {
		return &iterator{engine: v.engine, err: storage.ErrClosed}
	}
	return v.reader.Iterate(s, r)
}

// Close implements storage.View.
func (v *view) Close() {
	if !v.closed.CompareAndSwap(false, true) {
		return
	}
	v.engine.unpin(v)
	C.dkv_snapshot_free(v.engine.native, v.snapshot)
}

// invalidate implements pin.
func (v *view) invalidate() {
	if v.closed.CompareAndSwap(false, true) {
		C.dkv_snapshot_free(v.engine.native, v.snapshot)
	}
}
