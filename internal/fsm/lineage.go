package fsm

import (
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/storage"
)

// A restore ends a history and begins another one in the same cluster. The state keeps
// the ids of those that went before (its lineage), so that a copy of one of them can be
// told that the present one took its place, from one that only has the same cluster id.

// maxLineage is how many former histories are kept. A copy of an older one is not
// recognised, and waits for an operator.
const maxLineage = 64

// readLineage returns the histories before the present one, the oldest first.
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

// successorLineage is the lineage of a history that takes the place of m's.
func (m *Machine) successorLineage() []string {
	out := m.lineage
	if id := m.Identity(); id.History != "" {
		out = append(slices.Clip(out), id.History)
	}
	return out[max(len(out)-maxLineage, 0):]
}

// KeepLineage makes the state in engine, which no machine has open and whose history is
// a new one, the successor of m's. It is not durable yet.
func (m *Machine) KeepLineage(engine storage.Engine) error {
	var b storage.Batch
	putLineage(&b, m.successorLineage())
	return engine.Write(&b, false)
}

// Succeeds reports whether the present history has taken the place of the given one, by
// one restore or several.
func (m *Machine) Succeeds(history string) bool { return slices.Contains(m.lineage, history) }
