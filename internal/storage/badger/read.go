package badger

import (
	"errors"
	"fmt"
	"sync/atomic"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
)

// Get implements storage.Reader. A row of the newest state answers without a search.
func (e *Engine) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if err := e.readable(); err != nil {
		return nil, false, err
	}
	if s != storage.Data {
		return e.search(s, key)
	}
	return e.rows.Read(key, func() ([]byte, bool, error) { return e.search(s, key) })
}

// search finds a key in the engine.
func (e *Engine) search(s storage.Space, key []byte) ([]byte, bool, error) {
	version := e.snapshots.acquire()
	defer e.snapshots.release(version)
	return e.getAt(version, s, key)
}

// MultiGet implements storage.Reader.
func (e *Engine) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if err := e.readable(); err != nil {
		return nil, err
	}
	version := e.snapshots.acquire()
	defer e.snapshots.release(version)
	return e.multiGetAt(version, s, keys)
}

// Iterate implements storage.Reader. Badger has no way to read past its cache,
// so Range.Bulk changes nothing.
func (e *Engine) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	if err := e.readable(); err != nil {
		return &iterator{err: err, done: true}
	}
	return e.newIterator(e.snapshots.acquire(), s, r)
}

// NewView implements storage.Engine.
func (e *Engine) NewView() (storage.View, error) {
	if err := e.readable(); err != nil {
		return nil, err
	}
	return &view{engine: e, version: e.snapshots.acquire()}, nil
}

// readable returns why reads are rejected, if they are.
func (e *Engine) readable() error {
	if e.closed.Load() {
		return storage.ErrClosed
	}
	if damage := e.damage.Load(); damage != nil {
		return *damage
	}
	return nil
}

// getAt reads one key at a version that the caller has pinned.
func (e *Engine) getAt(version uint64, s storage.Space, key []byte) ([]byte, bool, error) {
	txn := e.db.NewTransactionAt(version, false)
	defer txn.Discard()
	var scratch [64]byte
	return get(txn, appendKey(scratch[:0], s, key))
}

// multiGetAt reads keys at a version that the caller has pinned.
func (e *Engine) multiGetAt(version uint64, s storage.Space, keys [][]byte) ([][]byte, error) {
	txn := e.db.NewTransactionAt(version, false)
	defer txn.Discard()
	values := make([][]byte, len(keys))
	var stored []byte
	size := 0
	for i, key := range keys {
		var err error
		stored = appendKey(stored[:0], s, key)
		if values[i], _, err = get(txn, stored); err != nil {
			return nil, err
		}
		if size += len(values[i]); size > storage.MultiGetBytes {
			return values[:i+1], nil
		}
	}
	return values, nil
}

// get returns the value of a stored key, joined if it is in parts.
// The value belongs to the caller.
func get(txn *bdg.Txn, stored []byte) ([]byte, bool, error) {
	item, err := txn.Get(stored)
	if errors.Is(err, bdg.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("badger: get: %w", mapped(err))
	}
	value, err := valueOf(txn, item, stored)
	if err != nil {
		return nil, false, err
	}
	return value, true, nil
}

// valueOf returns the value of item, never nil. It is valid as long as the
// item: for good if Get made it, until the next step if an iterator did.
func valueOf(txn *bdg.Txn, item *bdg.Item, stored []byte) (value []byte, err error) {
	// Value copies into a buffer of the item's own, so it may be kept.
	if err := item.Value(func(v []byte) error { value = v; return nil }); err != nil {
		return nil, fmt.Errorf("badger: read value: %w", mapped(err))
	}
	if item.UserMeta() == metaInParts {
		return join(txn, value, stored)
	}
	if value == nil {
		value = []byte{}
	}
	return value[:len(value):len(value)], nil
}

// join puts a value together from its parts.
func join(txn *bdg.Txn, head, stored []byte) ([]byte, error) {
	n, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	value := make([]byte, 0, n)
	var partKey []byte
	for i := range partsOf(n) {
		partKey = appendPartKey(partKey[:0], stored, i)
		item, err := txn.Get(partKey)
		if err == nil {
			err = item.Value(func(v []byte) error { value = append(value, v...); return nil })
		}
		if errors.Is(err, bdg.ErrKeyNotFound) {
			return nil, fmt.Errorf("%w: part %d of a value of %d bytes is missing", storage.ErrCorrupt, i, n)
		}
		if err != nil {
			return nil, fmt.Errorf("badger: read part %d of a value: %w", i, mapped(err))
		}
	}
	if len(value) != n {
		return nil, fmt.Errorf("%w: the parts of a value of %d bytes make %d", storage.ErrCorrupt, n, len(value))
	}
	return value, nil
}

// view is a pinned version.
type view struct {
	engine  *Engine
	version uint64
	closed  atomic.Bool
}

var errViewClosed = fmt.Errorf("view was used after its Close: %w", storage.ErrClosed)

func (v *view) readable() error {
	if v.closed.Load() {
		return errViewClosed
	}
	return v.engine.readable()
}

func (v *view) Get(s storage.Space, key []byte) ([]byte, bool, error) {
	if err := v.readable(); err != nil {
		return nil, false, err
	}
	return v.engine.getAt(v.version, s, key)
}

func (v *view) MultiGet(s storage.Space, keys [][]byte) ([][]byte, error) {
	if err := v.readable(); err != nil {
		return nil, err
	}
	return v.engine.multiGetAt(v.version, s, keys)
}

func (v *view) Iterate(s storage.Space, r storage.Range) storage.Iterator {
	if err := v.readable(); err != nil {
		return &iterator{err: err, done: true}
	}
	v.engine.snapshots.retain(v.version)
	return v.engine.newIterator(v.version, s, r)
}

func (v *view) Close() {
	if v.closed.CompareAndSwap(false, true) {
		v.engine.snapshots.release(v.version)
	}
}
