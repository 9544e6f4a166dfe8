package fsm

import (
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/storage"
)

// A restore ends a history and begins another one in the same cluster. The state keeps the
// ids of the histories before (its lineage). By them a slave with a copy of an old history
// learns that the current one replaced it, and that it is not just any history with the same
// cluster id.

// maxLineage is how many former histories are kept. A copy of an older one is not recognised,
// and waits for an operator.
const maxLineage = 64

// readLineage returns the histories before the current one, the oldest first.
func readLineage(r storage.Reader) ([]string, error) {
	p, _, err := r.Get(storage.Meta, keyLineage)
	if err != nil || len(p) == 0 {
		return nil, err
	}
	return strings.Split(string(p), "\n"), nil
}

func putLineage(b *storage.Batch, lineage []string) {
	if len(lineage) > 0 {
		b.Put(storage.Meta, keyLineage, []byte(strings.Join(lineage, "\n")))
	}
}

// successorLineage returns the lineage of a history that replaces m's.
func (m *Machine) successorLineage() []string {
	out := m.lineage
	if id := m.Identity(); id.History != "" {
		out = append(slices.Clip(out), id.History)
	}
	return out[max(len(out)-maxLineage, 0):]
}

// KeepLineage records that the state in engine, which no machine has open and whose history
// is new, replaces m's. The result is not durable yet.
func (m *Machine) KeepLineage(engine storage.Engine) error {
	var b storage.Batch
	putLineage(&b, m.successorLineage())
	return engine.Write(&b, false)
}

// Succeeds reports whether the current history has replaced the given one, by one restore or
// several.
func (m *Machine) Succeeds(history string) bool { return slices.Contains(m.lineage, history) }
