package history

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// The state keeps the ids of the histories before its own (its lineage). By them a slave with
// a copy of an old history learns that the current one replaced it, and that it is not just
// any history with the same cluster id.

// Former is a history before the current one.
type Former struct {
	History string
	// End is the last index of it that is a part of what follows, if a promotion ended it.
	// It is 0 if a restore did: nothing of such a history is left.
	End kv.Index
}

// MaxLineage is how many former histories are kept. A copy of an older one is not recognised,
// and waits for an operator.
const MaxLineage = 64

// Newest returns the last MaxLineage histories of a lineage.
func Newest(lineage []Former) []Former { return lineage[max(len(lineage)-MaxLineage, 0):] }

// After returns the lineage of a history that follows last, which has the given lineage.
func After(last Former, lineage []Former) []Former {
	if last.History != "" {
		lineage = append(slices.Clip(lineage), last)
	}
	return Newest(lineage)
}

// Leads reports whether a state at an index of a history is a part of the history that has
// the given lineage: promotions have led from the one to the other, at or above the index. A
// slave that has taken over a history before it had the first change of it may be promoted: then
// the later end is the lower one.
func Leads(history string, at kv.Index, lineage []Former) bool {
	end, known := EndOf(history, lineage)
	return known && at <= end
}

// EndOf returns the last index of a history that is a part of the history with the given lineage; 0 if
// a restore has replaced the keyspace since. known is false of one that is not in the lineage.
func EndOf(history string, lineage []Former) (end kv.Index, known bool) {
	i := slices.IndexFunc(lineage, func(f Former) bool { return f.History == history })
	if i < 0 || history == "" {
		return 0, false
	}
	end = lineage[i].End
	for _, f := range lineage[i:] {
		end = min(end, f.End)
	}
	return end, true
}

// AppendLineage appends the record of a lineage to dst: a line for each history, with its id,
// and after a space its end if it has one.
func AppendLineage(dst []byte, lineage []Former) []byte {
	for i, f := range lineage {
		if i > 0 {
			dst = append(dst, '\n')
		}
		if dst = append(dst, f.History...); f.End != 0 {
			dst = strconv.AppendUint(append(dst, ' '), f.End, 10)
		}
	}
	return dst
}

// DecodeLineage decodes the record of a lineage, which is empty if there is no former history.
func DecodeLineage(p []byte) ([]Former, error) {
	if len(p) == 0 {
		return nil, nil
	}
	var out []Former
	for line := range strings.SplitSeq(string(p), "\n") {
		id, end, ended := strings.Cut(line, " ")
		f := Former{History: id}
		if ended {
			var err error
			if f.End, err = strconv.ParseUint(end, 10, 64); err != nil || f.End == 0 {
				return nil, fmt.Errorf("%w: lineage record, history %q", storage.ErrCorrupt, line)
			}
		}
		out = append(out, f)
	}
	return out, nil
}
