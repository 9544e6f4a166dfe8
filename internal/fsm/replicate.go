package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrDisorder means that changes do not follow what was applied. Nothing of them
// was.
var ErrDisorder = errors.New("the changes do not follow the state")

// Replicate applies changes as another machine's Changes returned them, as one
// engine batch, and moves the state to index upTo: those up to it that are not
// among changes had no effect. What the changes do was decided where they come
// from, so that nothing is here: they are not fenced, paused or checked, and no old
// value is read but where keys expire. They go into the changelog under the indexes
// and clocks that they have. The log's clock is what the last of them says, also where
// it was set back; one without mutations says nothing else.
//
// The state must have an identity, and the indexes of changes must ascend above
// Applied and end at upTo at the latest; otherwise the error is ErrDisorder. Other
// errors are as those of Apply. Who replicates does not apply.
func (m *Machine) Replicate(changes []kv.Change, upTo kv.Index, sync bool) error {
	if err := m.failure(); err != nil {
		return err
	}
	if err := m.follows(changes, upTo); err != nil {
		return err
	}
	if upTo == m.state.applied {
		return nil
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if err := m.replicate(changes, upTo, sync); err != nil {
		if errors.Is(err, ErrUnread) {
			return err
		}
		return m.fail(fmt.Errorf("replicate up to index %d: %w", upTo, err))
	}
	m.publish()
	return nil
}

// follow takes over the clock of the log that is replicated, if a change tells it.
func (s *state) follow(clock kv.Clock) {
	if clock != 0 {
		s.clock = clock
	}
}

// follows returns an error where changes up to an index cannot come next.
func (m *Machine) follows(changes []kv.Change, upTo kv.Index) error {
	if m.Identity().History == "" {
		return fmt.Errorf("%w: it has no history yet", ErrDisorder)
	}
	last := m.state.applied
	for i := range changes {
		if changes[i].Index <= last {
			return fmt.Errorf("%w: change %d comes after %d", ErrDisorder, changes[i].Index, last)
		}
		last = changes[i].Index
	}
	if upTo < last {
		return fmt.Errorf("%w: they are to end at %d, behind %d", ErrDisorder, upTo, last)
	}
	return nil
}

func (m *Machine) replicate(changes []kv.Change, upTo kv.Index, sync bool) error {
	defer m.scratch.release()
	tx, err := m.beginReplay(changes, m.engine)
	if err != nil {
		return err
	}
	for i := range changes {
		c := &changes[i]
		m.state.follow(c.Clock)
		for j := range c.Mutations {
			tx.replay(&c.Mutations[j])
		}
		if len(c.Mutations) > 0 {
			m.state.logged = m.scratch.changes.Append(tx.batch, *c, m.state.logged)
		}
	}
	m.state.applied = upTo
	return tx.write(sync)
}

// multiGetter is what a batch reads old values from.
type multiGetter interface {
	MultiGet(storage.Space, [][]byte) ([][]byte, error)
}

// beginReplay begins a batch that applies changes. It reads from old what they may
// take out of the expiry index.
func (m *Machine) beginReplay(changes []kv.Change, old multiGetter) (*tx, error) {
	m.scratch.batch.Reset()
	tx := &tx{m: m, batch: &m.scratch.batch}
	if !m.mayReindex(changes) {
		return tx, nil
	}
	keys := m.scratch.keys[:0]
	for i := range changes {
		for j := range changes[i].Mutations {
			keys = append(keys, changes[i].Mutations[j].Key)
		}
	}
	if err := tx.readFrom(old, keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, m.note(err))
	}
	return tx, nil
}

// write writes the batch together with the state.
func (tx *tx) write(sync bool) error {
	tx.putState()
	tx.m.reaching.Store(tx.m.state.applied)
	return tx.m.engine.Write(tx.batch, sync)
}

// putState adds the state record.
func (tx *tx) putState() {
	m := tx.m
	m.scratch.state = m.state.append(m.scratch.state[:0])
	tx.batch.Put(storage.Meta, keyState, m.scratch.state)
}

// mayReindex tells whether changes may concern the expiry index.
func (m *Machine) mayReindex(changes []kv.Change) bool {
	if m.state.expiring > 0 {
		return true
	}
	for i := range changes {
		for j := range changes[i].Mutations {
			if expiryOf(&changes[i].Mutations[j]) != 0 {
				return true
			}
		}
	}
	return false
}

// expiryOf is the expiry that a key has after a mutation; 0 is none.
func expiryOf(m *kv.Mutation) uint64 {
	if m.Delete {
		return 0
	}
	return m.ExpireTS
}

// replay does what a mutation says.
func (tx *tx) replay(m *kv.Mutation) {
	if tx.known != nil {
		cur, next := tx.known[string(m.Key)], expiryOf(m)
		tx.reindex(m.Key, cur, next)
		cur.expireTS = next
	}
	if m.Delete {
		tx.batch.Delete(storage.Data, m.Key)
		return
	}
	putData(tx.batch, m.Key, m.Value, m.ExpireTS)
}

// ReplicaCost returns the most that Replicate adds to an engine batch for a change:
// its bytes and its operations.
func ReplicaCost(c *kv.Change) (bytes, ops int) {
	bytes, ops = commandOverhead, 2+mutationOps*len(c.Mutations)
	for i := range c.Mutations {
		bytes += mutationCost(&c.Mutations[i])
	}
	return bytes, ops
}

// ReplicateLarge is Replicate for one change that is more than the engine writes
// with one batch, as a change from an engine without limits may be. Its record and
// its mutations are written in parts that readers, and the next start after a crash,
// see together or not at all. A change whose record alone is too large is a
// storage.ErrTooLarge, and nothing of it is applied.
func (m *Machine) ReplicateLarge(c kv.Change, limit storage.BatchLimit) error {
	if err := m.failure(); err != nil {
		return err
	}
	if err := m.follows([]kv.Change{c}, c.Index); err != nil {
		return err
	}
	m.scratch.batch.Reset()
	logged := m.scratch.changes.Append(&m.scratch.batch, c, m.state.logged)
	if size := m.scratch.batch.Size(); !limit.Allows(size, 1) {
		return fmt.Errorf("%w: change %d takes %d bytes, and %s writes %d at most; keep this copy in another engine",
			storage.ErrTooLarge, c.Index, size, m.engine.Kind(), limit.Bytes)
	}
	engine, ok := m.engine.(storage.StagedWriter)
	if !ok {
		return m.Replicate([]kv.Change{c}, c.Index, false) // an engine that has no limits of its own
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	if err := m.replicateLarge(engine, c, logged, limit); err != nil {
		return m.fail(fmt.Errorf("replicate at index %d: %w", c.Index, err))
	}
	m.publish()
	return nil
}

// replicateLarge writes the record, which is in the batch, and then the mutations.
func (m *Machine) replicateLarge(engine storage.StagedWriter, c kv.Change, logged uint64, limit storage.BatchLimit) error {
	staged, err := engine.BeginStaged()
	if err != nil {
		return err
	}
	if err := staged.Write(&m.scratch.batch); err != nil {
		return err
	}
	m.state.follow(c.Clock)
	for rest := c.Mutations; len(rest) > 0; {
		part := kv.Change{Mutations: rest[:1]}
		bytes, ops := ReplicaCost(&part)
		n := 1
		for ; n < len(rest); n++ {
			bytes, ops = bytes+mutationCost(&rest[n]), ops+mutationOps
			if !limit.Allows(bytes, ops) {
				break
			}
		}
		part.Mutations, rest = rest[:n], rest[n:]
		if len(rest) == 0 {
			m.state.applied, m.state.logged = c.Index, logged
		}
		if err := m.replayPart(staged, part, len(rest) == 0); err != nil {
			return err
		}
	}
	return nil
}

// replayPart adds a part of a change to a staged write, and commits that with the
// last one.
func (m *Machine) replayPart(staged storage.Staged, part kv.Change, last bool) error {
	defer m.scratch.release()
	tx, err := m.beginReplay([]kv.Change{part}, staged)
	if err != nil {
		return err
	}
	for i := range part.Mutations {
		tx.replay(&part.Mutations[i])
	}
	if !last {
		return staged.Write(tx.batch)
	}
	tx.putState()
	m.reaching.Store(m.state.applied)
	return staged.Commit(tx.batch)
}

// LastChange returns the newest change that is retained, and whether there is one.
func (m *Machine) LastChange() (last kv.Change, found bool, err error) {
	view, err := m.View()
	if err != nil {
		return kv.Change{}, false, err
	}
	defer view.Close()
	err = view.read(func(r storage.Reader) (err error) {
		last, found, err = lastChange(r)
		return err
	})
	return last, found, m.note(err)
}

func lastChange(r storage.Reader) (kv.Change, bool, error) {
	it := r.Iterate(storage.Changelog, storage.Range{Reverse: true, KeysOnly: true})
	defer it.Close()
	if !it.Next() {
		return kv.Change{}, false, it.Err()
	}
	if len(it.Key()) != 8 {
		return kv.Change{}, false, fmt.Errorf("%w: change record %x", storage.ErrCorrupt, it.Key())
	}
	changes, err := changelog.Scan(r, binary.BigEndian.Uint64(it.Key()), 1, math.MaxInt)
	if err != nil || len(changes) == 0 {
		return kv.Change{}, false, err
	}
	return changes[0], true, nil
}
