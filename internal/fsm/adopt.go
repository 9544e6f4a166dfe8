package fsm

import (
	"errors"
	"fmt"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrElsewhere means that a state does not lead to a history: it has changes that the history
// does not have, or is no part of it.
var ErrElsewhere = errors.New("the state is no part of the history")

// Leads reports whether a state at an index of a history is a part of the history that has
// the given lineage: promotions have led from the one to the other, at or above the index. A
// slave that has taken over a history before it had the first change of it may be promoted: then
// the later end is the lower one.
func Leads(history string, at kv.Index, lineage []Former) bool {
	own := false
	for _, f := range lineage {
		if f.History == history {
			own = at <= f.End
		} else {
			own = own && at <= f.End // 0: a restore has replaced the keyspace since
		}
	}
	return own && history != ""
}

// Adopt makes the state one of a history that promotions have begun since, with its lineage:
// what the state has is a part of it, and its changes may be replicated. The state must be at
// or below the end of its own history, else the error is ErrElsewhere. It is durable, and may
// be repeated. Only the goroutine that replicates may call it.
func (m *Machine) Adopt(history string, lineage []Former) error {
	if err := m.failure(); err != nil {
		return err
	}
	id := m.Identity()
	switch {
	case history == id.History:
		return nil
	case m.Succeeds(history):
		return fmt.Errorf("%w %s, which history %s here has followed", ErrElsewhere, history, id.History)
	case !Leads(id.History, m.state.applied, lineage):
		return fmt.Errorf("%w %s: it is at index %d of history %s", ErrElsewhere, history, m.state.applied, id.History)
	}
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	id.History = history
	lineage = append([]Former(nil), lineage[max(len(lineage)-maxLineage, 0):]...)
	var b storage.Batch
	b.Put(storage.Meta, keyIdentity, id.append(nil))
	putLineage(&b, lineage)
	if err := m.engine.Write(&b, true); err != nil {
		return m.fail(fmt.Errorf("adopt history %s: %w", history, err))
	}
	m.lineage.Store(&lineage)
	m.identity.Store(&id)
	return nil
}
