package announce

import (
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
)

// delta is what a message says of one row.
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

// overlay returns rows with deltas made, of those of one row the last. It changes
// deltas, and not rows, and costs a copy of what is between the deltas: among many rows
// few change at a time.
func overlay(rows []Row, deltas []delta) []Row {
	slices.SortStableFunc(deltas, func(a, b delta) int { return compare(a.info, b.info) })
	out := make([]Row, 0, len(rows)+len(deltas))
	for i, d := range deltas {
		if i+1 < len(deltas) && compare(d.info, deltas[i+1].info) == 0 {
			continue
		}
		at, found := slices.BinarySearchFunc(rows, d.info, func(r Row, in *serverpb.RegionInfo) int { return compare(r.Info, in) })
		out = append(out, rows[:at]...)
		if found {
			at++
		}
		rows = rows[at:]
		if !d.gone {
			out = append(out, Row{Info: d.info})
		}
	}
	return append(out, rows...)
}
