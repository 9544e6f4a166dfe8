package announce

import (
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
)

// delta is a message's change of one row.
type delta struct {
	info *serverpb.RegionInfo
	gone bool
}

func deltasOf(m *serverpb.ClusterInfoChange) []delta {
	out := make([]delta, 0, len(m.GetGone())+len(m.GetRows()))
	for _, r := range m.GetGone() {
		out = append(out, delta{info: r, gone: true})
	}
	for _, r := range m.GetRows() {
		out = append(out, delta{info: r})
	}
	return out
}

// overlay returns rows with deltas applied, of several for one row the last. It reorders
// deltas and does not change rows. It costs a copy of the rows between the deltas, since
// few of many rows change at a time.
func overlay(rows []*serverpb.RegionInfo, deltas []delta) []*serverpb.RegionInfo {
	slices.SortStableFunc(deltas, func(a, b delta) int { return compare(a.info, b.info) })
	out := make([]*serverpb.RegionInfo, 0, len(rows)+len(deltas))
	for i, d := range deltas {
		if i+1 < len(deltas) && compare(d.info, deltas[i+1].info) == 0 {
			continue
		}
		at, found := slices.BinarySearchFunc(rows, d.info, compare)
		out = append(out, rows[:at]...)
		if found {
			at++
		}
		rows = rows[at:]
		if !d.gone {
			out = append(out, d.info)
		}
	}
	return append(out, rows...)
}
