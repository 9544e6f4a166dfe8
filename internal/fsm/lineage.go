package fsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// A restore ends a history and begins another one in the same cluster, and so does a
// promotion. The state keeps the ids of the histories before (its lineage). By them a slave
// with a copy of an old history learns that the current one replaced it, and that it is not
// just any history with the same cluster id.

// Former is a history before the current one.
type Former struct {
	History string
	// End is the last index of it that is a part of what follows, if a promotion ended it.
	// It is 0 if a restore did: nothing of such a history is left.
	End kv.Index
}

// maxLineage is how many former histories are kept. A copy of an older one is not recognised,
// and waits for an operator.
const maxLineage = 64

// Lineage returns the histories before the current one, the oldest first. The caller must not
// change them.
func (m *Machine) Lineage() []Former {
	if l := m.lineage.Load(); l != nil {
		return *l
	}
	return nil
}

// readLineage returns the histories before the current one. Each is a line of the record: its
// id, and after a space its end if it has one.
func readLineage(r storage.Reader) ([]Former, error) {
	p, _, err := r.Get(storage.Meta, keyLineage)
	if err != nil || len(p) == 0 {
		return nil, err
	}
	var out []Former
	for line := range strings.SplitSeq(string(p), "\n") {
		f := Former{}
		id, end, ended := strings.Cut(line, " ")
		if f.History = id; ended {
			if f.End, err = strconv.ParseUint(end, 10, 64); err != nil || f.End == 0 {
				return nil, fmt.Errorf("%w: %s record, history %q", storage.ErrCorrupt, keyLineage, line)
			}
		}
		out = append(out, f)
	}
	return out, nil
}

func putLineage(b *storage.Batch, lineage []Former) {
	if len(lineage) == 0 {
		return
	}
	var p []byte
	for i, f := range lineage {
		if i > 0 {
			p = append(p, '\n')
		}
		if p = append(p, f.History...); f.End != 0 {
			p = strconv.AppendUint(append(p, ' '), f.End, 10)
		}
	}
	b.Put(storage.Meta, keyLineage, p)
}

// followedBy returns the lineage of a history that follows last, which has the given lineage.
func followedBy(lineage []Former, last Former) []Former {
	if last.History != "" {
		lineage = append(slices.Clip(lineage), last)
	}
	return lineage[max(len(lineage)-maxLineage, 0):]
}

// successorLineage returns the lineage of a restored history that replaces m's.
func (m *Machine) successorLineage() []Former {
	return followedBy(m.Lineage(), Former{History: m.Identity().History})
}

// KeepLineage records that the state in engine, which no machine has open and whose history
// is new, replaces m's. The result is not durable yet.
func (m *Machine) KeepLineage(engine storage.Engine) error {
	var b storage.Batch
	putLineage(&b, m.successorLineage())
	return engine.Write(&b, false)
}

// Succeeds reports whether the current history has replaced or followed the given one, by one
// restore or promotion or several.
func (m *Machine) Succeeds(history string) bool {
	return slices.ContainsFunc(m.Lineage(), func(f Former) bool { return f.History == history })
}
