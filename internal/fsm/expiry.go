package fsm

import (
	"encoding/binary"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Expiring returns up to limit keys that have expired at now, as the mutations of a
// command.Expire. It costs nothing if no key has an expiry.
func (m *Machine) Expiring(now kv.Clock, limit int) ([]kv.Mutation, error) {
	if m.expiring.Load() == 0 {
		return nil, nil
	}
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	end := binary.BigEndian.AppendUint64(nil, uint64(now)/1000+1)
	it := m.engine.Iterate(storage.Expiry, storage.Range{End: end, KeysOnly: true})
	defer it.Close()
	var due []kv.Mutation
	for len(due) < limit && it.Next() {
		k := it.Key()
		if len(k) <= 8 {
			return nil, fmt.Errorf("%w: expiry record %x", storage.ErrCorrupt, k)
		}
		due = append(due, kv.Mutation{
			Key:      append([]byte(nil), k[8:]...),
			ExpireTS: binary.BigEndian.Uint64(k),
			Delete:   true,
		})
	}
	return due, it.Err()
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
