package rocksdb

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// Kind is what Engine.Kind returns.
const Kind = "rocksdb"

// Engine is an open RocksDB database. It implements storage.Engine.
type Engine struct {
	reader // of the newest state

	dir       string
	memory    *Memory
	ownMemory bool // close it with the engine
	native    *C.dkv_db
	rows      *rowcache.Rows
	blocks    sync.Pool // of *[largeBlock]byte, for iterators
	closed    atomic.Bool
	failed    atomic.Pointer[error] // the first failed write or sync

	mu sync.Mutex
	// pins are the open views and iterators. RocksDB may not be closed before
	// them, so Close ends those that are left.
	pins map[pin]struct{}
}

// pin is something that RocksDB has to outlive.
type pin interface {
	// invalidate frees what it holds of RocksDB. From then on it answers with
	// storage.ErrClosed.
	invalidate()
}

var _ storage.Engine = (*Engine)(nil)

// Kind returns "rocksdb".
func (e *Engine) Kind() string { return Kind }

// orderFrom is the number of mutations from which it is worth it to put them in order.
const orderFrom = 128

// Write implements storage.Engine. Batches of concurrent writers are merged
// into one write, and one sync, of the log by RocksDB. After a failed Write or
// Sync the engine only reads: what the log's file holds is not known then. It
// has to be opened again.
func (e *Engine) Write(b *storage.Batch, sync bool) error {
	if err := e.writable(); err != nil {
		return err
	}
	if b.Count() == 0 {
		if sync {
			return e.Sync()
		}
		return nil
	}
	if b.Count() >= orderFrom {
		if err := b.Order(); err != nil {
			return err
		}
	}
	var rows rowcache.Write
	defer rows.End()
	if err := rows.Begin(e.rows, b); err != nil {
		return err
	}
	rep := b.Rep()
	var flag C.int
	if sync {
		flag = 1
	}
	s := C.dkv_write(e.native, bytesPointer(rep), C.size_t(len(rep)), flag)
	return e.written(s)
}

// Sync implements storage.Engine.
func (e *Engine) Sync() error {
	if err := e.writable(); err != nil {
		return err
	}
	return e.written(C.dkv_sync(e.native))
}

// writable returns why the engine cannot be written, if it cannot.
func (e *Engine) writable() error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	if err := e.failed.Load(); err != nil {
		return fmt.Errorf("rocksdb rejects writes until it is opened again, because one failed: %w", *err)
	}
	return nil
}

// written returns the outcome of a write, and keeps the first bad one.
func (e *Engine) written(s C.dkv_status) error {
	if s.code == C.DKV_OK {
		return nil
	}
	err := statusError(s.code, s.message)
	e.failed.CompareAndSwap(nil, &err)
	return err
}

// Flush implements storage.Flusher.
func (e *Engine) Flush() error {
	if err := e.writable(); err != nil {
		return err
	}
	s := C.dkv_flush(e.native)
	if err := statusError(s.code, s.message); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Compact flushes and rewrites everything now rather than in the background.
func (e *Engine) Compact() error {
	if err := e.writable(); err != nil {
		return err
	}
	s := C.dkv_compact(e.native)
	if err := statusError(s.code, s.message); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

// Verify implements storage.Engine. RocksDB cannot stop in the middle.
func (e *Engine) Verify(ctx context.Context) error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := C.dkv_verify(e.native)
	if err := statusError(s.code, s.message); err != nil {
		return fmt.Errorf("verify %s: %w", e.dir, err)
	}
	return nil
}

// Checkpoint implements storage.Engine. Sorted files are hard links if dir
// is on the same file system; the live part of the log is copied, so nothing
// has to be flushed.
func (e *Engine) Checkpoint(dir string) error {
	// The log files that are linked rather than copied are durable from here.
	if err := e.Sync(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	cDir := C.CString(dir)
	defer C.free(unsafe.Pointer(cDir))
	s := C.dkv_checkpoint(e.native, cDir)
	if err := statusError(s.code, s.message); err != nil {
		return fmt.Errorf("checkpoint into %s: %w", dir, err)
	}
	if err := durable.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return fmt.Errorf("checkpoint into %s: %w", dir, err)
	}
	return nil
}

// Close implements storage.Engine. It makes the log durable and seals it; it
// does not flush the write buffers, which the next Open reads back from the log.
func (e *Engine) Close() error {
	if e.closed.Load() {
		return nil
	}
	err := e.writable()
	if err == nil {
		err = e.written(C.dkv_seal(e.native))
	}
	e.closed.Store(true)
	e.mu.Lock()
	pins := e.pins
	e.pins = nil
	e.mu.Unlock()
	for p := range pins {
		p.invalidate()
	}
	C.dkv_close(e.native)
	e.native = nil
	if err == nil {
		recordInventory(e.dir, true)
	}
	if e.ownMemory {
		e.memory.Close()
	}
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// pin registers p, so that Close ends it if it is still open then.
func (e *Engine) pin(p pin) {
	e.mu.Lock()
	e.pins[p] = struct{}{}
	e.mu.Unlock()
}

// unpin undoes pin.
func (e *Engine) unpin(p pin) {
	e.mu.Lock()
	delete(e.pins, p)
	e.mu.Unlock()
}
