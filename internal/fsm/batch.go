package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// tx is a batch that is being built. Later entries of the batch see the effects of earlier
// ones through known, which has the current value of every key that an entry names. It is
// nil if nothing depends on old values.
type tx struct {
	m       *Machine
	batch   *storage.Batch
	known   map[string]*current
	effects []kv.Mutation
	// named, members, format, timing and standbys replace those of the machine once the
	// batch is written. They are nil or zero if the batch does not change them.
	named    *Identity
	members  map[uint64][]byte
	format   uint32
	timing   *logRecord
	standbys *logRecord
}

// current is a key's value as storage.Data holds it, expired or not.
type current struct {
	value    []byte
	expireTS uint64
	found    bool
}

// begin begins a batch and reads the old values that the entries depend on, all with one
// MultiGet. If they depend on none, as plain puts into a keyspace without expiring keys, it
// reads nothing.
func (m *Machine) begin(entries []Entry) (*tx, error) {
	m.scratch.batch.Reset()
	tx := &tx{m: m, batch: &m.scratch.batch, effects: m.scratch.effects}
	if !m.needsOldValues(entries) {
		return tx, nil
	}
	keys := m.scratch.keys[:0]
	for i := range entries {
		if c := entries[i].Command; c != nil && c.Kind != command.StageRestore {
			for j := range c.Mutations {
				keys = append(keys, c.Mutations[j].Key)
			}
		}
	}
	return tx, tx.read(keys)
}

func (m *Machine) needsOldValues(entries []Entry) bool {
	if m.state.expiring > 0 {
		return true
	}
	for i := range entries {
		c := entries[i].Command
		if c == nil || !c.Kind.ChangesKeys() {
			continue
		}
		if c.Kind != command.Write {
			return true
		}
		for j := range c.Mutations {
			if c.Mutations[j].Delete || c.Mutations[j].ExpireTS != 0 {
				return true
			}
		}
	}
	return false
}

// read fills known with the current values of keys.
func (tx *tx) read(keys [][]byte) error { return tx.readFrom(tx.m.engine, keys) }

// multiGetter reads the old values for a batch.
type multiGetter interface {
	MultiGet(storage.Space, [][]byte) ([][]byte, error)
}

func (tx *tx) readFrom(old multiGetter, keys [][]byte) error {
	m := tx.m
	stored, err := old.MultiGet(storage.Data, keys)
	if err != nil {
		return err
	}
	m.scratch.keys = keys
	olds := m.scratch.reserve(len(keys))
	tx.known = m.scratch.known
	for i, key := range keys {
		if tx.known[string(key)] != nil {
			continue
		}
		tx.known[string(key)] = &olds[i]
		if stored[i] == nil {
			continue
		}
		olds[i].found = true
		if olds[i].value, olds[i].expireTS, err = splitData(stored[i]); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}

// write writes the batch together with the state record.
func (tx *tx) write(sync bool) error {
	tx.putState()
	tx.m.reaching.Store(tx.m.state.applied)
	return tx.m.engine.Write(tx.batch, sync)
}

// putState adds the state record to the batch.
func (tx *tx) putState() {
	m := tx.m
	m.scratch.state = m.state.append(m.scratch.state[:0])
	tx.batch.Put(storage.Meta, keyState, m.scratch.state)
}
