package fsm

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrDisorder means that changes do not follow what was applied. None of them was applied.
var ErrDisorder = errors.New("the changes do not follow the state")

// Replicate applies changes that another machine's Changes returned, as one engine batch, and
// moves the state to index upTo: indexes up to it that are not among changes had no effect.
// The machine that the changes come from has decided what they do, so this one decides
// nothing. They are not fenced, paused or checked, and old values are read only for keys that
// expire. The changelog gets them under their own indexes and clocks. The log's clock becomes
// that of the last change, also if that is earlier. A change without mutations only sets the
// clock. The requests of changes are remembered with their results, so that a repeat is answered
// here after a promotion.
//
// The state must have an identity, and the indexes of changes must ascend, be above Applied
// and not exceed upTo; otherwise the error is ErrDisorder. Other errors are those of Apply.
// One machine uses either Apply or Replicate.
func (m *Machine) Replicate(changes []kv.Change, upTo kv.Index, sync bool) error {
	if err := m.failure(); err != nil {
		return err
	}
	if err := m.follows(changes, upTo); err != nil {
		return err
	}
	if upTo == m.state.Applied {
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

// followClock sets the clock to that of the replicated log, if a change has one.
func (m *Machine) followClock(clock kv.Clock) {
	if clock != 0 {
		m.state.Clock = clock
	}
}

// follows returns an error if changes up to an index cannot come next.
func (m *Machine) follows(changes []kv.Change, upTo kv.Index) error {
	if m.Identity().History == "" {
		return fmt.Errorf("%w: it has no history yet", ErrDisorder)
	}
	last := m.state.Applied
	for i := range changes {
		if changes[i].Index <= last {
			return fmt.Errorf("%w: change %d comes after %d", ErrDisorder, changes[i].Index, last)
		}
		last = changes[i].Index
	}
	if upTo < last {
		return fmt.Errorf("%w: they end at %d, and change %d is after that", ErrDisorder, upTo, last)
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
		m.followClock(c.Clock)
		for j := range c.Mutations {
			tx.replay(&c.Mutations[j])
		}
		if len(c.Mutations) > 0 {
			tx.record(*c)
			tx.remember(c)
		}
	}
	m.scratch.changes.Flush(tx.batch)
	m.requests.Flush(tx.batch)
	m.state.Applied = upTo
	return tx.write(sync)
}

// beginReplay begins a batch that applies changes. It reads from old the values whose
// entries in the expiry index they may remove.
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
	keys = tx.know(keys)
	if err := tx.readFrom(old, keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, m.note(err))
	}
	return tx, nil
}

// mayReindex reports whether changes may affect the expiry index.
func (m *Machine) mayReindex(changes []kv.Change) bool {
	if m.state.Expiring > 0 {
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

// expiryOf returns the expiry of a key after a mutation, or 0 if there is none.
func expiryOf(m *kv.Mutation) uint64 {
	if m.Delete {
		return 0
	}
	return m.ExpireTS
}

// replay adds a mutation to the batch.
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
	layout.PutData(tx.batch, m.Key, m.Value, m.ExpireTS)
}
