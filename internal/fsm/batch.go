package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm/layout"
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
	timing   *layout.Opaque
	standbys *layout.Opaque
}

// current is a key's value as storage.Data holds it, expired or not. The value itself is there
// only if it is no longer than an entry of the batch may find it.
type current struct {
	value    []byte
	size     int // of the value
	expireTS uint64
	found    bool
	// longest is the length up to which the value is kept when it is read.
	longest int
}

// begin begins a batch and reads the old values that the entries depend on, with as few
// MultiGets as there can be. If they depend on none, as plain puts into a keyspace without
// expiring keys, it reads nothing.
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
	keys = tx.know(keys)
	for i := range entries {
		if c := entries[i].Command; c != nil && len(c.Mutations) > 0 && (c.Kind == command.CompareAndSet || c.Kind == command.Increment) {
			cur := tx.known[string(c.Mutations[0].Key)]
			cur.longest = max(cur.longest, len(c.Expect), counterBytes)
		}
	}
	return tx, tx.readFrom(m.engine, keys)
}

func (m *Machine) needsOldValues(entries []Entry) bool {
	if m.state.Expiring > 0 {
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

// multiGetter reads the old values for a batch.
type multiGetter interface {
	MultiGet(storage.Space, [][]byte) ([][]byte, error)
}

// know makes known what readFrom fills, and returns the keys without repetitions: one that a
// request names a hundred thousand times is read once.
func (tx *tx) know(keys [][]byte) [][]byte {
	s := &tx.m.scratch
	s.keys = keys
	olds := s.reserve(len(keys))
	tx.known = s.known
	each := keys[:0]
	for _, key := range keys {
		if tx.known[string(key)] == nil {
			tx.known[string(key)] = &olds[len(each)]
			each = append(each, key)
		}
	}
	return each
}

// readFrom fills known with the current values of keys. They may come to far more than the
// memory holds: what is not needed of them is dropped before more are read.
func (tx *tx) readFrom(old multiGetter, keys [][]byte) error {
	for from := 0; from < len(keys); {
		stored, err := old.MultiGet(storage.Data, keys[from:])
		if err != nil {
			return err
		}
		all := len(stored) == len(keys)
		for i := range stored {
			if err := tx.known[string(keys[from+i])].read(stored[i], all); err != nil {
				return fmt.Errorf("key %q: %w", keys[from+i], err)
			}
		}
		from += len(stored)
	}
	return nil
}

// read takes what is needed of a stored value. Unless the values of all keys are there
// together it is copied: it lies in the same memory as others, which are not kept.
func (c *current) read(stored []byte, all bool) error {
	if stored == nil {
		return nil
	}
	value, expireTS, err := layout.SplitData(stored)
	if err != nil {
		return err
	}
	c.found, c.size, c.expireTS, c.value = true, len(value), expireTS, nil
	if len(value) <= c.longest {
		if c.value = value; !all {
			c.value = bytes.Clone(value)
		}
	}
	return nil
}

// write writes the batch together with the state record.
func (tx *tx) write(sync bool) error {
	tx.putState()
	tx.m.reaching.Store(tx.m.state.Applied)
	return tx.m.engine.Write(tx.batch, sync)
}

// putState adds the state record to the batch.
func (tx *tx) putState() {
	m := tx.m
	m.scratch.state = m.state.Append(m.scratch.state[:0])
	tx.batch.Put(storage.Meta, layout.KeyState, m.scratch.state)
}

// scratch is memory that Apply reuses.
type scratch struct {
	batch   storage.Batch
	changes changelog.Writer
	state   []byte
	expiry  []byte
	effects []kv.Mutation
	cause   kv.ChangeRequest
	keys    [][]byte
	known   map[string]*current
	olds    []current
}

// maxScratch is the largest number of keys for which the memory is kept. A larger batch
// allocates its own memory, and later ones need not clear it.
const maxScratch = 1 << 14

// reserve prepares known and returns n zero values for it.
func (s *scratch) reserve(n int) []current {
	if s.known == nil {
		s.known = make(map[string]*current)
	}
	s.olds = slices.Grow(s.olds, n)[:n]
	return s.olds
}

// release drops the pointers to requests and stored values, so that the garbage collector
// need not wait for the next batch.
func (s *scratch) release() {
	s.batch.Release()
	if max(cap(s.effects), cap(s.keys), cap(s.olds)) > maxScratch {
		s.effects, s.keys, s.olds, s.known = nil, nil, nil, nil
		return
	}
	clear(s.effects[:cap(s.effects)])
	clear(s.keys)
	clear(s.olds)
	clear(s.known)
	s.effects, s.keys, s.olds = s.effects[:0], s.keys[:0], s.olds[:0]
}
