package badger

import (
	"bytes"

	bdg "github.com/dgraph-io/badger/v4"

	"github.com/dkvdb/dkv/internal/storage"
)

// iterator walks over a span of stored keys at a pinned version.
type iterator struct {
	engine   *Engine
	version  uint64
	txn      *bdg.Txn
	it       *bdg.Iterator
	span     span
	reverse  bool
	keysOnly bool
	started  bool
	done     bool
	key      []byte
	value    []byte
	err      error
}

// newIterator returns an iterator that releases version when it is closed.
func (e *Engine) newIterator(version uint64, s storage.Space, r storage.Range) *iterator {
	it := &iterator{
		engine:   e,
		version:  version,
		txn:      e.db.NewTransactionAt(version, false),
		span:     spanOf(s, r),
		reverse:  r.Reverse,
		keysOnly: r.KeysOnly,
	}
	it.it = walk(it.txn, it.span, r.Reverse)
	return it
}

// walk opens an iterator of Badger's over the tables that may have keys of sp.
// Values come with the keys, none being in the value log, so prefetching would
// only start goroutines.
func walk(txn *bdg.Txn, sp span, reverse bool) *bdg.Iterator {
	return txn.NewIterator(bdg.IteratorOptions{Reverse: reverse, Prefix: sp.prefix})
}

// Next implements storage.Iterator.
func (it *iterator) Next() bool {
	if it.done {
		return false
	}
	if err := it.engine.readable(); err != nil {
		return it.end(err)
	}
	switch {
	case it.started:
		it.it.Next()
	case it.reverse:
		it.started = true
		it.it.Seek(it.span.end)
		// The end itself is not in the range.
		if it.it.Valid() && bytes.Equal(it.it.Item().Key(), it.span.end) {
			it.it.Next()
		}
	default:
		it.started = true
		it.it.Seek(it.span.start)
	}
	return it.take()
}

// take makes the pair that Badger stands at the present one, if it is in the
// range.
func (it *iterator) take() bool {
	if !it.it.Valid() {
		return it.end(nil)
	}
	item := it.it.Item()
	stored := item.Key()
	if it.reverse && bytes.Compare(stored, it.span.start) < 0 ||
		!it.reverse && bytes.Compare(stored, it.span.end) >= 0 {
		return it.end(nil)
	}
	it.key = stored[1:]
	if it.keysOnly {
		return true
	}
	var err error
	if it.value, err = valueOf(it.txn, item, stored); err != nil {
		return it.end(err)
	}
	return true
}

func (it *iterator) end(err error) bool {
	it.done, it.err = true, err
	it.key, it.value = nil, nil
	return false
}

// Key implements storage.Iterator.
func (it *iterator) Key() []byte { return it.key }

// Value implements storage.Iterator.
func (it *iterator) Value() []byte { return it.value }

// Err implements storage.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements storage.Iterator.
func (it *iterator) Close() {
	it.done = true
	if it.it == nil {
		return
	}
	// A closed engine has freed what the iterator holds.
	if !it.engine.closed.Load() {
		it.it.Close()
		it.txn.Discard()
	}
	it.it = nil
	it.engine.snapshots.release(it.version)
}
