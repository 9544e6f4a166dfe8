package badger

import (
	"encoding/binary"
	"errors"
	"fmt"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/rowcache"
)

// A staged write commits each of its batches as a version of its own and publishes
// none but the last, so that readers stay at the version before all of them. The
// first batch also writes a marker, which names that version, and the last one
// deletes it: if a crash left the marker, Open undoes everything newer.
// Badger keeps the old versions meanwhile, since the discard timestamp stays. A batch
// that is more than one transaction holds is written in the same way.

// markerKey is before every key of ours: see keys.go.
var markerKey = []byte{0}

// A marker is the version, 8 bytes big endian, in the first format, which has no number. One
// of a later format is longer, and its first byte is the number.
const (
	markerFormat = 1
	markerSize   = 8
)

func decodeMarker(v []byte) (base uint64, err error) {
	switch {
	case len(v) == markerSize:
		return binary.BigEndian.Uint64(v), nil
	case len(v) > markerSize && v[0] > markerFormat:
		return 0, storage.Newer("the marker of a staged write", uint64(v[0]), markerFormat)
	default:
		return 0, fmt.Errorf("%w: the marker of a staged write has %d bytes", storage.ErrCorrupt, len(v))
	}
}

// rollbackOps is how many keys are taken back in one transaction.
const rollbackOps = 10_000

var _ storage.StagedWriter = (*Engine)(nil)

// staged is a write in several batches.
type staged struct {
	engine *Engine
	// base is the version before it, last that of its newest batch.
	base, last uint64
	over       bool
	rows       rowcache.Write // readers may find the old rows again when it is over
	// broken is why a batch failed. The write can only be abandoned then.
	broken error
}

// errStaging is a fault of the caller's.
var errStaging = errors.New("badger: a staged write is under way")

// BeginStaged implements storage.StagedWriter.
func (e *Engine) BeginStaged() (storage.Staged, error) {
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if err := e.writable(); err != nil {
		return nil, err
	}
	base := e.snapshots.current()
	e.staged = &staged{engine: e, base: base, last: base}
	return e.staged, nil
}

// Write implements storage.Staged.
func (s *staged) Write(b *storage.Batch) error { return s.write(b, false) }

// Commit implements storage.Staged.
func (s *staged) Commit(b *storage.Batch) error {
	if err := s.write(b, true); err != nil {
		return err
	}
	e := s.engine
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	s.over, e.staged = true, nil
	e.db.SetDiscardTs(e.snapshots.publish(s.last))
	s.rows.End()
	return nil
}

func (s *staged) write(b *storage.Batch, final bool) error {
	e := s.engine
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	w := newBatchWriter(e, b, s.base, s.last)
	defer w.discard()
	err := s.rows.Begin(e.rows, b)
	if err == nil {
		err = w.fill(b)
	}
	if err == nil {
		err = w.commit(final)
	}
	if s.last = w.version; err != nil {
		s.broken = err // a part of the batch may be there
	}
	return err
}

// writable returns why nothing more can be written, if so.
func (s *staged) writable() error {
	e := s.engine
	switch err := e.readable(); {
	case err != nil:
		return err
	case s.over || e.staged != s:
		return errors.New("badger: the staged write is over")
	case e.failed != nil:
		return fmt.Errorf("an earlier write failed, the engine has to be opened again: %w", e.failed)
	case s.broken != nil:
		return fmt.Errorf("badger: the staged write can only be abandoned: %w", s.broken)
	}
	return nil
}

// MultiGet implements storage.Staged.
func (s *staged) MultiGet(space storage.Space, keys [][]byte) ([][]byte, error) {
	if err := s.engine.readable(); err != nil {
		return nil, err
	}
	return s.engine.multiGetAt(s.last, space, keys)
}

// Abandon implements storage.Staged.
func (s *staged) Abandon() error {
	e := s.engine
	e.writeMu.Lock()
	defer e.writeMu.Unlock()
	if s.over || e.staged != s {
		return nil
	}
	s.over, e.staged = true, nil
	defer s.rows.End()
	if s.last == s.base || e.failed != nil {
		return nil // nothing was written, or Open will see to it
	}
	newest, err := e.takeBack(s.base, s.last)
	if err != nil {
		e.failed = err
		return err
	}
	e.db.SetDiscardTs(e.snapshots.publish(newest))
	return nil
}

// close ends the write with its engine, which is not written any more. Other engines share the cache
// of rows, and could add none where the write holds them back. The caller holds writeMu.
func (s *staged) close() {
	s.over, s.engine.staged = true, nil
	s.rows.End()
}

// recoverStaged takes back what a staged write has left that was not committed, and
// returns the newest version.
func (e *Engine) recoverStaged(newest uint64) (uint64, error) {
	txn := e.db.NewTransactionAt(newest, false)
	defer txn.Discard()
	item, err := txn.Get(markerKey)
	if errors.Is(err, bdg.ErrKeyNotFound) {
		return newest, nil
	}
	if err != nil {
		return newest, mapped(err)
	}
	var base uint64
	err = item.Value(func(v []byte) (err error) {
		base, err = decodeMarker(v)
		return err
	})
	if err == nil && base > newest {
		err = fmt.Errorf("%w: the marker of a staged write names version %d, behind %d", storage.ErrCorrupt, base, newest)
	}
	if err != nil {
		return newest, err
	}
	return e.takeBack(base, newest)
}

// takeBack writes for every key that versions above base concern what it was at
// base, as further versions, and returns the last of those. The marker goes with the
// last: a crash in between has it done again.
func (e *Engine) takeBack(base, newest uint64) (uint64, error) {
	now, then := e.db.NewTransactionAt(newest, false), e.db.NewTransactionAt(base, false)
	defer now.Discard()
	defer then.Discard()
	it := now.NewIterator(bdg.IteratorOptions{AllVersions: true, SinceTs: base})
	defer it.Close()
	w := &rollback{engine: e, version: newest}
	defer w.discard()
	var last []byte
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().KeyCopy(nil)
		if string(key) == string(last) || string(key) == string(markerKey) {
			continue
		}
		last = key
		if err := w.restore(then, key); err != nil {
			return 0, err
		}
	}
	if err := w.txnFor(0).Delete(markerKey); err != nil {
		return 0, fmt.Errorf("badger: take back: %w", mapped(err))
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.version, e.countPartsAt(w.version)
}

// rollback writes keys in transactions of a bounded size.
type rollback struct {
	engine  *Engine
	version uint64 // the last one that was written
	txn     *bdg.Txn
	ops     int
	bytes   int
}

// txnFor returns the transaction for another operation of so many bytes.
func (w *rollback) txnFor(bytes int) *bdg.Txn {
	if w.txn == nil {
		w.txn = w.engine.db.NewTransactionAt(w.version, true)
	}
	w.ops, w.bytes = w.ops+1, w.bytes+bytes
	return w.txn
}

func (w *rollback) restore(then *bdg.Txn, key []byte) error {
	item, err := then.Get(key)
	switch {
	case errors.Is(err, bdg.ErrKeyNotFound):
		err = w.txnFor(len(key)).Delete(key)
	case err == nil:
		var value []byte
		if value, err = item.ValueCopy(nil); err == nil {
			entry := bdg.NewEntry(key, value).WithMeta(item.UserMeta())
			err = w.txnFor(len(key) + len(value)).SetEntry(entry)
		}
	}
	if err != nil {
		return fmt.Errorf("badger: take back: %w", mapped(err))
	}
	if maxBytes, maxOps := w.engine.opts.txnLimits(); w.ops < min(rollbackOps, maxOps/2) && w.bytes < maxBytes/2 {
		return nil
	}
	return w.flush()
}

func (w *rollback) flush() error {
	if w.txn == nil {
		return nil
	}
	if err := w.txn.CommitAt(w.version+1, nil); err != nil {
		return fmt.Errorf("badger: take back: %w", mapped(err))
	}
	w.version++
	w.discard()
	return nil
}

func (w *rollback) discard() {
	if w.txn != nil {
		w.txn.Discard()
	}
	w.txn, w.ops, w.bytes = nil, 0, 0
}
