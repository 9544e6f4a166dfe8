package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
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
	var rows rowcache.Write
	defer rows.End()
	if err := rows.Begin(e.rows, b); err != nil {
		return err
	}
	base := e.snapshots.current()
	w := newBatchWriter(e, b, base, base)
	defer w.discard()
	if err := w.fill(b); err != nil {
		return errors.Join(err, w.takeBack())
	}
	if w.ops == 0 {
		return nil // nothing but range deletes that found nothing
	}
	if err := w.commit(true); err != nil {
		return errors.Join(err, w.takeBack())
	}
	e.db.SetDiscardTs(e.snapshots.publish(w.version))
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

// writable returns why writes are rejected, if they are.
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

// batchWriter turns a batch into a transaction of Badger's, or into several if it is
// more than one holds: all but the last are then versions that are not published, as
// those of a staged write are.
type batchWriter struct {
	engine *Engine
	txn    *bdg.Txn
	// base is the published version, version the newest one that is written.
	base, version uint64
	// marked means that a marker names base.
	marked           bool
	maxBytes, maxOps int // of a transaction
	txnBytes, txnOps int
	keys             []byte      // room for the stored keys, which have to last until the commit
	entries          []bdg.Entry // room for the puts, likewise
	ops              int
	bytes            int // of the values
	// parts holds the part counts that change with the batch, by stored key.
	parts map[string]int
	// data is the number of keys of Data put less those deleted.
	data int
}

// newBatchWriter continues from a version, which is not published if it is above base. The
// caller discards it.
func newBatchWriter(e *Engine, b *storage.Batch, base, version uint64) *batchWriter {
	w := &batchWriter{
		engine:  e,
		txn:     e.db.NewTransactionAt(version, true),
		base:    base,
		version: version,
		marked:  version > base,
		keys:    make([]byte, 0, b.Size()+b.Count()),
		entries: make([]bdg.Entry, b.Count()),
	}
	w.maxBytes, w.maxOps = e.opts.txnLimits()
	return w
}

// fill adds a batch.
func (w *batchWriter) fill(b *storage.Batch) error {
	if b.Size() > MaxBatchBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", storage.ErrTooLarge, b.Size(), MaxBatchBytes)
	}
	if err := w.engine.checkRoom(b.Size()); err != nil {
		return err
	}
	if err := b.Each(w.apply); err != nil {
		return fmt.Errorf("badger: write: %w", mapped(err))
	}
	return nil
}

// commit writes what is left as one more version. The final one, which is published by the
// caller, has no marker any more.
func (w *batchWriter) commit(final bool) error {
	if err := w.write(!final); err != nil {
		return fmt.Errorf("badger: write: %w", mapped(err))
	}
	w.settle()
	return nil
}

// write commits the transaction as the next version, with a marker or without.
func (w *batchWriter) write(mark bool) error {
	var err error
	switch {
	case mark && !w.marked:
		err = w.txn.Set(markerKey, binary.BigEndian.AppendUint64(nil, w.base))
	case !mark && w.marked:
		err = w.txn.Delete(markerKey)
	}
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := w.txn.CommitAt(w.version+1, nil); err != nil {
		if !errors.Is(mapped(err), storage.ErrTooLarge) { // which is refused before it is written
			w.engine.failed = fmt.Errorf("badger: write: %w", mapped(err))
		}
		return err
	}
	if !w.engine.opts.Diskless {
		w.engine.commits.Observe(time.Since(begun))
	}
	w.version++
	w.marked = mark
	return nil
}

// admit makes room for an operation, in another transaction if this one is full.
func (w *batchWriter) admit(size int) error {
	const entryBytes = 32 // what Badger counts beside a key and its value, at most
	size += entryBytes
	if w.ops++; w.ops > MaxBatchOps {
		return fmt.Errorf("%w: more than %d keys", storage.ErrTooLarge, MaxBatchOps)
	}
	if w.txnOps > 0 && (w.txnOps >= w.maxOps || w.txnBytes+size > w.maxBytes) {
		if err := w.write(true); err != nil {
			return err
		}
		w.txn.Discard()
		w.txn, w.txnOps, w.txnBytes = w.engine.db.NewTransactionAt(w.version, true), 0, 0
	}
	w.txnOps, w.txnBytes = w.txnOps+1, w.txnBytes+size
	return nil
}

// discard drops what was not written.
func (w *batchWriter) discard() { w.txn.Discard() }

// takeBack undoes the versions of a batch that failed after some of them.
func (w *batchWriter) takeBack() error {
	e := w.engine
	if w.version == w.base || e.failed != nil {
		return nil // nothing was written, or Open will see to it
	}
	newest, err := e.takeBack(w.base, w.version)
	if err != nil {
		e.failed = err
		return err
	}
	e.db.SetDiscardTs(e.snapshots.publish(newest))
	return nil
}

// keyLimit is checked before Badger would refuse a key, with its bytes in the error.
var keyLimit = storage.BatchLimit{Key: MaxKeyBytes}

// apply is given each mutation in order. Badger keeps the last one of a key.
func (w *batchWriter) apply(op storage.Op) error {
	if op.Kind != storage.OpDeleteRange {
		if err := keyLimit.CheckKey(op.Key); err != nil {
			return err
		}
	}
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
	if err := w.admit(len(stored) + len(value)); err != nil {
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
	if err := w.admit(len(stored)); err != nil {
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
	found, err := w.keysIn(op)
	if err != nil {
		return err
	}
	for _, stored := range found {
		if err := w.delete(stored); err != nil {
			return err
		}
	}
	return nil
}

// keysIn returns the stored keys of a range. They are all read before any is deleted:
// that may begin another transaction, which ends this one's iterators.
func (w *batchWriter) keysIn(op storage.Op) (found [][]byte, err error) {
	sp := spanOf(op.Space, storage.Range{Start: op.Key, End: op.Value})
	it := walk(w.txn, sp, false)
	defer it.Close()
	for it.Seek(sp.start); it.Valid(); it.Next() {
		stored := it.Item().Key()
		if bytes.Compare(stored, sp.end) >= 0 {
			break
		}
		if w.ops+len(found) >= MaxBatchOps {
			return nil, fmt.Errorf("%w: more than %d keys", storage.ErrTooLarge, MaxBatchOps)
		}
		found = append(found, w.key(op.Space, stored[1:]))
	}
	return found, nil
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

// settle records in the engine what the committed batch has changed.
func (w *batchWriter) settle() {
	for stored, n := range w.parts {
		if n == 0 {
			delete(w.engine.parts, stored)
		} else {
			w.engine.parts[stored] = n
		}
	}
	w.engine.memtable.add(w.ops, len(w.keys)+w.bytes, w.data, w.engine.opts.MemtableBytes)
}
