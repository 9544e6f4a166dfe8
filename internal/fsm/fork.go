package fsm

import (
	"fmt"

	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/standby"
	"github.com/dkvdb/dkv/internal/storage"
)

// Branch says where a promotion ends a history and which one follows. All nodes that become
// masters get the same.
type Branch struct {
	// Former is the history that ends, and End its last index.
	Former string
	End    kv.Index
	// History is the one that begins.
	History string
	// Clock is the greatest of the nodes' clocks of the log.
	Clock kv.Clock
	// Expired is ExpiredTotal of the promotion's founder. Slaves do not count it.
	Expired uint64
}

// Fork makes the state in engine, which no machine has open, the base of a new log and of the
// history that a promotion begins. It must be a state of the former history at its end, or
// the error is ErrDiverged. It keeps the keyspace, the changes and the remembered requests
// (see ImportRequests). The log's own records, the list of slaves, a pause and a seal end. The
// result is durable. After a crash or an error Fork may be called again, also when it is done
// and the new log has begun.
func Fork(engine storage.Engine, to Branch) error {
	id, applied, err := Inspect(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	lineage, err := readLineage(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	last := Former{History: to.Former, End: to.End}
	switch {
	case to.Former == "" || to.History == "" || to.Former == to.History:
		return fmt.Errorf("fork: history %q cannot follow history %q", to.History, to.Former)
	case id.History == to.History && len(lineage) > 0 && lineage[len(lineage)-1] == last:
		return nil // done before
	case id.History != to.Former || applied != to.End:
		return fmt.Errorf("fork: %w: it is at index %d of history %q, and the promotion ends history %q at index %d",
			ErrDiverged, applied, id.History, to.Former, to.End)
	}
	if err := clearSpace(engine, storage.Meta, storage.Prefix(prefixSlave)); err != nil {
		return fmt.Errorf("fork: drop the list of slaves: %w", err)
	}
	st, err := readState(engine)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	st.applied = to.End + standby.Gap
	st.clock, st.expired, st.paused = to.Clock, to.Expired, false
	var b storage.Batch
	b.Put(storage.Meta, keyIdentity, Identity{Cluster: id.Cluster, History: to.History}.append(nil))
	putLineage(&b, followedBy(lineage, last))
	return beginLog(engine, &b, st)
}

// Origin returns what the first epoch of a log says of the state that it begins with, if a
// promotion has left the state and the log has had no epoch yet; else nil.
func (m *Machine) Origin() (*command.Origin, error) {
	lineage := m.Lineage()
	if len(lineage) == 0 || m.Epoch().ID != 0 {
		return nil, nil
	}
	last := lineage[len(lineage)-1]
	if last.End == 0 || m.base != last.End+standby.Gap {
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

// Lost reports whether an index is of no history any more: a promotion has ended its history
// before it.
func (m *Machine) Lost(index kv.Index) bool {
	for _, f := range m.Lineage() {
		if f.End != 0 && index > f.End && index <= f.End+standby.Gap {
			return true
		}
	}
	return false
}
