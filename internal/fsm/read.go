package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Get returns the pair at key as of now, and whether there is one. There is none if the key
// has expired. The pair's Key is the given slice.
func (m *Machine) Get(key []byte, now kv.Clock) (kv.Pair, bool, error) {
	if !m.gate.enter() {
		return kv.Pair{}, false, ErrClosed
	}
	defer m.gate.leave()
	stored, found, err := m.engine.Get(storage.Data, key)
	if err != nil || !found {
		return kv.Pair{}, false, m.note(err)
	}
	pair, live, err := parsePair(key, stored, now)
	return pair, live, m.note(err)
}

// ErrTooMuch means that the values of keys are too large to be read at once. A view reads
// them in several parts.
var ErrTooMuch = errors.New("the values are too large to be read at once")

// MultiGet returns the pairs of the keys that exist as of now, in the order of keys, all from
// one state; or ErrTooMuch.
func (m *Machine) MultiGet(keys [][]byte, now kv.Clock) ([]kv.Pair, error) {
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	stored, err := m.engine.MultiGet(storage.Data, keys)
	switch {
	case err != nil:
		return nil, m.note(err)
	case len(stored) < len(keys):
		return nil, ErrTooMuch
	}
	pairs, err := livePairs(keys, stored, now)
	return pairs, m.note(err)
}

// livePairs returns the pairs of the first keys, whose values were read.
func livePairs(keys, stored [][]byte, now kv.Clock) ([]kv.Pair, error) {
	pairs := make([]kv.Pair, 0, len(stored))
	for i := range stored {
		if stored[i] == nil {
			continue
		}
		p, live, err := parsePair(keys[i], stored[i], now)
		if err != nil {
			return nil, err
		}
		if live {
			pairs = append(pairs, p)
		}
	}
	return pairs, nil
}

func parsePair(key, stored []byte, now kv.Clock) (kv.Pair, bool, error) {
	value, expireTS, err := layout.SplitData(stored)
	if err != nil {
		return kv.Pair{}, false, fmt.Errorf("key %q: %w", key, err)
	}
	if now.Expired(expireTS) {
		return kv.Pair{}, false, nil
	}
	return kv.Pair{Key: key, Value: value, ExpireTS: expireTS}, true, nil
}

// HasKeys reports whether there is any key, expired ones included.
func (m *Machine) HasKeys() (bool, error) {
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	it := m.engine.Iterate(storage.Data, storage.Range{KeysOnly: true})
	defer it.Close()
	some := it.Next()
	return some, m.note(it.Err())
}

// note records the first error that says that data is damaged, so that an operator learns of
// it even if the client whose read failed does not report it.
func (m *Machine) note(err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		m.corruption.CompareAndSwap(nil, &err)
	}
	return err
}

// expiringBytes bounds the keys that Expiring returns, as requests of clients are bounded: an Expire
// is one command, one batch of an engine and one change record, which slaves have to write as well.
const expiringBytes = 1 << 20

// Expiring returns up to limit keys that have expired at now, as the mutations of a
// command.Expire, and whether there may be more. Long keys are fewer, but one at least. It costs
// nothing if no key has an expiry.
func (m *Machine) Expiring(now kv.Clock, limit int) (due []kv.Mutation, more bool, err error) {
	if m.expiring.Load() == 0 {
		return nil, false, nil
	}
	if !m.gate.enter() {
		return nil, false, ErrClosed
	}
	defer m.gate.leave()
	end := binary.BigEndian.AppendUint64(nil, uint64(now)/1000+1)
	it := m.engine.Iterate(storage.Expiry, storage.Range{End: end, KeysOnly: true})
	defer it.Close()
	bytes := 0
	for len(due) < limit && bytes < expiringBytes {
		if !it.Next() {
			return due, false, it.Err()
		}
		k := it.Key()
		if len(k) <= 8 {
			return nil, false, fmt.Errorf("%w: expiry record %x", storage.ErrCorrupt, k)
		}
		due = append(due, kv.Mutation{
			Key:      append([]byte(nil), k[8:]...),
			ExpireTS: binary.BigEndian.Uint64(k),
			Delete:   true,
		})
		bytes += len(k)
	}
	return due, true, nil
}

// Due reports whether a key has expired at now but not by the log's clock. It costs nothing
// if no key has an expiry.
func (m *Machine) Due(now kv.Clock) (bool, error) {
	if m.expiring.Load() == 0 {
		return false, nil
	}
	if !m.gate.enter() {
		return false, ErrClosed
	}
	defer m.gate.leave()
	from, to := uint64(m.Clock())/1000+1, uint64(now)/1000+1
	if from >= to {
		return false, nil
	}
	it := m.engine.Iterate(storage.Expiry, storage.Range{
		Start: binary.BigEndian.AppendUint64(nil, from), End: binary.BigEndian.AppendUint64(nil, to), KeysOnly: true,
	})
	defer it.Close()
	due := it.Next()
	return due, m.note(it.Err())
}
