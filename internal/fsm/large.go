package fsm

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ReplicateLarge is Replicate for one change that is too large for one batch of the engine,
// which a change from an engine without limits may be. Its record and its mutations are
// written in parts that become visible, and survive a crash, all together or not at all. If
// the record alone is too large, the error is a storage.ErrTooLarge and nothing is applied; so is
// nothing after an ErrUnread, whatever part it comes from.
func (m *Machine) ReplicateLarge(c kv.Change, limit storage.BatchLimit) error {
	if err := m.failure(); err != nil {
		return err
	}
	if err := m.follows([]kv.Change{c}, c.Index); err != nil {
		return err
	}
	m.scratch.batch.Reset()
	logged := m.scratch.changes.Append(&m.scratch.batch, c, m.state.Logged)
	m.scratch.changes.Flush(&m.scratch.batch)
	if size := m.scratch.batch.Size(); !limit.Allows(size, 1) {
		return fmt.Errorf("%w: change %d takes %d bytes, and %s writes %d at most; keep this copy in another engine",
			storage.ErrTooLarge, c.Index, size, m.engine.Kind(), limit.Bytes)
	}
	engine, ok := m.engine.(storage.StagedWriter)
	if !ok {
		return m.Replicate([]kv.Change{c}, c.Index, false) // the engine has no limit of its own
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	m.staging.Lock()
	defer m.staging.Unlock()
	state, effect := m.state, m.effect
	switch err := m.replicateLarge(engine, c, logged, limit); {
	case errors.Is(err, ErrUnread):
		m.state, m.effect = state, effect // earlier parts have changed them
		return err
	case err != nil:
		return m.fail(fmt.Errorf("replicate at index %d: %w", c.Index, err))
	}
	m.publish()
	return nil
}

// replicateLarge writes a change as one staged write, which is given up if an old value cannot be
// read.
func (m *Machine) replicateLarge(engine storage.StagedWriter, c kv.Change, logged uint64, limit storage.BatchLimit) error {
	staged, err := engine.BeginStaged()
	if err != nil {
		return err
	}
	err = m.replayParts(staged, c, logged, limit)
	if !errors.Is(err, ErrUnread) {
		return err
	}
	if failed := staged.Abandon(); failed != nil {
		return fmt.Errorf("give up a staged write: %w; it was given up since: %v", failed, err)
	}
	return err
}

// replayParts writes the record, which is in the batch already, and then the mutations.
func (m *Machine) replayParts(staged storage.Staged, c kv.Change, logged uint64, limit storage.BatchLimit) error {
	if err := staged.Write(&m.scratch.batch); err != nil {
		return err
	}
	m.followClock(c.Clock)
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
			m.state.Applied, m.state.Logged = c.Index, logged
			m.effect = c.Index
			part.Index, part.Request = c.Index, c.Request
		}
		if err := m.replayPart(staged, part, len(rest) == 0); err != nil {
			return err
		}
	}
	return nil
}

// replayPart adds a part of a change to a staged write, and commits the write with the last
// part.
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
	tx.remember(&part)
	m.requests.Flush(tx.batch)
	tx.putState()
	m.reaching.Store(m.state.Applied)
	return staged.Commit(tx.batch)
}
