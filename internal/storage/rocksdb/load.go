package rocksdb

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/dkvdb/dkv/internal/storage"
)

// loadFolder is where, in the database's own folder, the files of a load lie
// until they are part of the database.
const loadFolder = "load"

// load fills an empty engine.
type load struct {
	engine *Engine
	native *C.dkv_load // nil when the load is over
	err    error       // why it is over; nil if it was finished
}

var _ storage.BulkLoader = (*Engine)(nil)

// BeginLoad implements storage.BulkLoader. What is added is written once, into
// files of the size that compaction gives them, with their space's options and
// the compression that a flush uses. They become part of the database together,
// in Finish, so that a load that ends earlier leaves an empty engine.
func (e *Engine) BeginLoad() (storage.Load, error) {
	if err := e.writable(); err != nil {
		return nil, err
	}
	l, err := e.beginLoad()
	if err != nil {
		return nil, fmt.Errorf("load into %s: %w", e.dir, err)
	}
	e.pin(l)
	return l, nil
}

func (e *Engine) beginLoad() (*load, error) {
	dir := filepath.Join(e.dir, loadFolder)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	cDir := C.CString(dir)
	defer C.free(unsafe.Pointer(cDir))
	begun := C.dkv_load_open(e.native, cDir)
	if err := statusError(begun.code, begun.message); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &load{engine: e, native: begun.load}, nil
}

// removeLoad removes the files of a load that a crash interrupted.
func removeLoad(dir string) error { return os.RemoveAll(filepath.Join(dir, loadFolder)) }

// errLoadFinished is a fault of the caller's.
var errLoadFinished = errors.New("rocksdb: the load is finished")

// over returns why nothing more can be added, if the load is over.
func (l *load) over() error {
	switch {
	case l.engine.closed.Load():
		return storage.ErrClosed
	case l.err != nil:
		return l.err
	case l.native == nil:
		return errLoadFinished
	}
	return nil
}

// Add implements storage.Load.
func (l *load) Add(b *storage.Batch) error {
	if err := l.over(); err != nil {
		return err
	}
	if b.Count() == 0 {
		return nil
	}
	rep := b.Rep()
	s := C.dkv_load_add(l.native, bytesPointer(rep), C.size_t(len(rep)))
	if err := statusError(s.code, s.message); err != nil {
		return l.end(fmt.Errorf("load: %w", err))
	}
	return nil
}

// Finish implements storage.Load.
func (l *load) Finish() error {
	if err := l.over(); err != nil {
		return err
	}
	s := C.dkv_load_finish(l.native)
	if err := statusError(s.code, s.message); err != nil {
		return l.end(fmt.Errorf("load: %w", err))
	}
	return l.end(nil)
}

// end ends the load with err, or nil, and returns it. The engine may be used
// again.
func (l *load) end(err error) error {
	l.engine.unpin(l)
	l.err = errors.Join(err, l.free())
	return l.err
}

// free frees the load, and removes its files if they did not become part of the
// database.
func (l *load) free() error {
	C.dkv_load_free(l.native)
	l.native = nil
	return removeLoad(l.engine.dir)
}

// invalidate implements pin.
func (l *load) invalidate() { l.err = l.free() }
