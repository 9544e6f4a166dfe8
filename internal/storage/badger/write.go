package badger

import (
	"bytes"
	"errors"
	"fmt"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
)

// Write implements storage.Engine. Batches above MaxBatchBytes or MaxBatchOps
// get storage.ErrTooLarge. After a write that failed in Badger all further
// ones fail, until the engine is opened again: what the log then holds is not
// known.
func (e *Engine) Write(b *storage.Batch, _ bool) error {
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if err := e.writable(); err != nil {
		return err
	}
	if b.Count() == 0 {
		return nil // all before it is durable
	}
	base := e.snapshots.current()
	w, err := e.fill(b, base)
	if err != nil {
		return err
	}
	defer w.txn.Discard()
	if w.ops == 0 {
		return nil // nothing but range deletes that found nothing
	}
	if err := e.commit(w, base+1); err != nil {
		return err
	}
	e.db.SetDiscardTs(e.snapshots.publish(base + 1))
	return nil
}

// fill makes a transaction of b that goes on from the version base. The caller
// discards it.
func (e *Engine) fill(b *storage.Batch, base uint64) (*batchWriter, error) {
	if b.Size() > MaxBatchBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", storage.ErrTooLarge, b.Size(), MaxBatchBytes)
	}
	if err := e.checkRoom(b.Size()); err != nil {
		return nil, err
	}
	w := newBatchWriter(e, b, base)
	if err := b.Each(w.apply); err != nil {
		w.txn.Discard()
		return nil, fmt.Errorf("badger: write: %w", mapped(err))
	}
	return w, nil
}

// commit writes w as a version, which is published by the caller.
func (e *Engine) commit(w *batchWriter, version uint64) error {
	if err := w.txn.CommitAt(version, nil); err != nil {
		err = fmt.Errorf("badger: write: %w", mapped(err))
		if !errors.Is(err, storage.ErrTooLarge) { // refused before anything is written
			e.failed = err
		}
		return err
	}
	w.settle()
	return nil
}

// Sync implements storage.Engine. Every write is durable when it returns.
func (e *Engine) Sync() error {
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if err := e.writable(); !errors.Is(err, errStaging) { // what is published is durable
		return err
	}
	return nil
}

// writable tells whether writes are accepted.
func (e *Engine) writable() error {
	if err := e.readable(); err != nil {
		return err
	}
	if e.loading != nil {
		return errLoading
	}
	if e.staged != nil {
		return errStaging
	}
	if e.failed != nil {
		return fmt.Errorf("an earlier write failed, the engine has to be opened again: %w", e.failed)
	}
	return nil
}

// batchWriter turns a batch into a transaction of Badger's.
type batchWriter struct {
	engine  *Engine
	txn     *bdg.Txn
	keys    []byte      // room for the stored keys, which have to last until the commit
	entries []bdg.Entry // room for the puts, likewise
	ops     int
	bytes   int // of the values
	// parts holds the part counts that change with the batch, by stored key.
	parts map[string]int
	// data is the number of keys of Data put less those deleted.
	data int
}

func newBatchWriter(e *Engine, b *storage.Batch, base uint64) *batchWriter {
	return &batchWriter{
		engine:  e,
		txn:     e.db.NewTransactionAt(base, true),
		keys:    make([]byte, 0, b.Size()+b.Count()),
		entries: make([]bdg.Entry, b.Count()),
	}
}

// apply is given each mutation in order. Badger keeps the last one of a key.
func (w *batchWriter) apply(op storage.Op) error {
	switch op.Kind {
	case storage.OpPut:
		return w.put(op)
	case storage.OpDelete:
		return w.delete(w.key(op.Space, op.Key))
	default:
		return w.deleteRange(op)
	}
}

// key makes a stored key that lasts.
func (w *batchWriter) key(s storage.Space, key []byte) []byte {
	at := len(w.keys)
	w.keys = appendKey(w.keys, s, key)
	return w.keys[at:len(w.keys):len(w.keys)]
}

func (w *batchWriter) partKey(stored []byte, part int) []byte {
	at := len(w.keys)
	w.keys = appendPartKey(w.keys, stored, part)
	return w.keys[at:len(w.keys):len(w.keys)]
}

func (w *batchWriter) count() error {
	if w.ops++; w.ops > MaxBatchOps {
		return fmt.Errorf("%w: more than %d keys", storage.ErrTooLarge, MaxBatchOps)
	}
	return nil
}

func (w *batchWriter) put(op storage.Op) error {
	stored := w.key(op.Space, op.Key)
	if op.Space == storage.Data {
		w.data++
	}
	n := partsOf(len(op.Value))
	if err := w.dropParts(stored, n); err != nil {
		return err
	}
	if n == 0 {
		return w.set(stored, op.Value, 0)
	}
	for i := range n {
		if err := w.set(w.partKey(stored, i), partOf(op.Value, i), 0); err != nil {
			return err
		}
	}
	w.setParts(stored, n)
	return w.set(stored, headOf(len(op.Value)), metaInParts)
}

func (w *batchWriter) set(stored, value []byte, meta byte) error {
	if err := w.count(); err != nil {
		return err
	}
	if len(w.entries) == 0 {
		w.entries = make([]bdg.Entry, 16)
	}
	entry := &w.entries[0]
	w.entries = w.entries[1:]
	entry.Key, entry.Value, entry.UserMeta = stored, value, meta
	w.bytes += len(value)
	return w.txn.SetEntry(entry)
}

func (w *batchWriter) delete(stored []byte) error {
	if stored[0] == spaceByte(storage.Data) {
		w.data--
	}
	if err := w.dropParts(stored, 0); err != nil {
		return err
	}
	return w.remove(stored)
}

func (w *batchWriter) remove(stored []byte) error {
	if err := w.count(); err != nil {
		return err
	}
	return w.txn.Delete(stored)
}

// deleteRange deletes every key of the range, those that the batch itself has
// put before included: the transaction's iterator shows them.
func (w *batchWriter) deleteRange(op storage.Op) error {
	if bytes.Compare(op.Key, op.Value) >= 0 {
		return nil
	}
	sp := spanOf(op.Space, storage.Range{Start: op.Key, End: op.Value})
	it := walk(w.txn, sp, false)
	defer it.Close()
	for it.Seek(sp.start); it.Valid(); it.Next() {
		stored := it.Item().Key()
		if bytes.Compare(stored, sp.end) >= 0 {
			break
		}
		// The iterator has made its copy of what the transaction had pending,
		// so the transaction may change meanwhile.
		if err := w.delete(w.key(op.Space, stored[1:])); err != nil {
			return err
		}
	}
	return nil
}

// dropParts deletes the parts from number keep on of the value that stored
// has so far.
func (w *batchWriter) dropParts(stored []byte, keep int) error {
	had, changed := w.parts[string(stored)]
	if !changed {
		had = w.engine.parts[string(stored)]
	}
	if had == 0 {
		return nil
	}
	for i := keep; i < had; i++ {
		if err := w.remove(w.partKey(stored, i)); err != nil {
			return err
		}
	}
	w.setParts(stored, keep)
	return nil
}

func (w *batchWriter) setParts(stored []byte, n int) {
	if w.parts == nil {
		w.parts = make(map[string]int)
	}
	w.parts[string(stored)] = n
}

// settle tells the engine what the committed batch has changed.
func (w *batchWriter) settle() {
	for stored, n := range w.parts {
		if n == 0 {
			delete(w.engine.parts, stored)
		} else {
			w.engine.parts[stored] = n
		}
	}
	w.engine.memtable.add(w.ops, len(w.keys)+w.bytes, w.data)
}
