package fsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/fsm/layout"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// ErrElsewhere means that a state does not lead to a history: it has changes that the history
// does not have, or is no part of it.
var ErrElsewhere = errors.New("the state is no part of the history")

// Identity says which cluster and which history a state belongs to.
type Identity = history.Identity

// Former is a history before the current one.
type Former = history.Former

// histories are the history of a state and those before it.
type histories struct {
	Identity
	former []Former
	// since is the index that was written with them.
	since kv.Index
}

// historiesAt returns the histories of a view at an index. A write is first in the engine, then in
// m.histories, and its index is published last. So what is loaded from memory once the view's index is
// published is as new as the view or newer. It is not newer if the index that was written with it is not above
// the view's; or only by an adoption that moved no index, whose state is one of both histories.
func (m *Machine) historiesAt(view storage.Reader, index kv.Index) (*histories, error) {
	if m.Applied() >= index {
		if h := m.histories.Load(); h.since <= index {
			return h, nil
		}
	}
	identity, _, err := layout.ReadIdentity(view)
	if err != nil {
		return nil, err
	}
	former, err := layout.ReadLineage(view)
	if err != nil {
		return nil, err
	}
	return &histories{Identity: identity, former: former}, nil
}

// Identity returns the ids of the state.
func (m *Machine) Identity() Identity { return m.histories.Load().Identity }

// Lineage returns the histories before the current one, the oldest first. The caller must not
// change them.
func (m *Machine) Lineage() []Former { return m.histories.Load().former }

// Succeeds reports whether the current history has replaced or followed the given one, by one
// restore or promotion or several.
func (m *Machine) Succeeds(history string) bool {
	return slices.ContainsFunc(m.Lineage(), func(f Former) bool { return f.History == history })
}

// Lost reports whether an index is of no history any more: a promotion has ended its history
// before it. The index that the next history begins with is that of its state before the first
// entry, which reads show.
func (m *Machine) Lost(index kv.Index) bool { return lost(m.Lineage(), index) }

func lost(lineage []Former, index kv.Index) bool {
	for i := range lineage {
		end := lineage[i].End
		for _, later := range lineage[i:] {
			if later.End != 0 { // one that had nothing of its own ended lower, and skipped from there
				end = min(end, later.End)
			}
		}
		if end != 0 && index > end && index < end+era.Gap {
			return true
		}
	}
	return false
}

// successorLineage returns the lineage of a restored history that replaces m's.
func (m *Machine) successorLineage() []Former {
	return history.After(Former{History: m.Identity().History}, m.Lineage())
}

// Adopt makes the state one of a history that promotions have begun since, with its lineage:
// what the state has is a part of it, and its changes may be replicated. The state must have no change
// above the end of its own history, nor may its index be above those that the promotion has skipped,
// else the error is ErrElsewhere. A state above the end moves right behind the skipped indexes, in the
// same write: a reader that waits for a lost index learns that. It is durable, and may be repeated.
// Only the goroutine that replicates may call it.
func (m *Machine) Adopt(to string, lineage []Former) error {
	if err := m.failure(); err != nil {
		return err
	}
	id, state := m.Identity(), m.state
	if !m.gate.enter() {
		return ErrClosed
	}
	defer m.gate.leave()
	newest, err := newestChange(m.engine, m.floor.Load())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnread, m.note(err))
	}
	end, leads := history.EndOf(id.History, lineage)
	above := state.Applied > end
	switch {
	case to == id.History:
		return nil
	case m.Succeeds(to):
		return fmt.Errorf("%w %s, which history %s here has followed", ErrElsewhere, to, id.History)
	case !leads || above && (end == 0 || state.Applied > end+era.Gap || newest > end && state.Applied != end+era.Gap):
		return fmt.Errorf("%w %s: it is at index %d of history %s", ErrElsewhere, to, m.state.Applied, id.History)
	}
	id.History = to
	lineage = slices.Clone(history.Newest(lineage))
	var b storage.Batch
	layout.PutIdentity(&b, id)
	layout.PutLineage(&b, lineage)
	if above {
		state.Applied = end + era.Gap
		b.Put(storage.Meta, layout.KeyState, state.Append(nil))
		m.reaching.Store(state.Applied)
	}
	if err := m.engine.Write(&b, true); err != nil {
		return m.fail(fmt.Errorf("adopt history %s: %w", to, err))
	}
	m.histories.Store(&histories{Identity: id, former: lineage, since: state.Applied})
	m.state = state
	m.publish() // last: who sees the index knows the history
	return nil
}

// Origin returns what the first epoch of a log says of the state that it begins with, if a
// promotion has left the state and the log has had no epoch yet; else nil.
func (m *Machine) Origin() (*command.Origin, error) {
	lineage := m.Lineage()
	if len(lineage) == 0 || m.Epoch().ID != 0 {
		return nil, nil
	}
	last := lineage[len(lineage)-1]
	if last.End == 0 || m.base != last.End+era.Gap {
		return nil, nil
	}
	if !m.gate.enter() {
		return nil, ErrClosed
	}
	defer m.gate.leave()
	digest, err := changelog.DigestAt(m.engine, last.End)
	if err != nil {
		return nil, m.note(err)
	}
	return &command.Origin{History: m.Identity().History, End: last.End, Digest: digest}, nil
}

// comesFrom returns ErrDiverged if this state is another one than that of the node that
// begins the log's first epoch. A change that one of them no longer retains is not compared.
func (m *Machine) comesFrom(want *command.Origin) error {
	have, err := m.Origin()
	if err != nil {
		return err
	}
	if have == nil {
		have = &command.Origin{History: m.Identity().History}
	}
	same := have.Digest == want.Digest || have.Digest == 0 || want.Digest == 0
	if have.History == want.History && have.End == want.End && same {
		return nil
	}
	return fmt.Errorf("%w: the log was founded by a promotion from history %s after index %d with last change %x, and here are history %s, index %d and %x; "+
		"remove this node from the cluster and add it again", ErrDiverged, want.History, want.End, want.Digest, have.History, have.End, have.Digest)
}
