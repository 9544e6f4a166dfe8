package survey

import (
	"fmt"
	"strings"

	"github.com/dkvdb/dkv/api/serverpb"
)

// standingRow is what the writes of a vBucket wait for.
type standingRow struct {
	Level    string       `json:"level"`
	Fallback bool         `json:"fallback,omitempty"`
	Slaves   []standbyRow `json:"slaves,omitempty"`
	Down     []string     `json:"down,omitempty"`
}

type standbyRow struct {
	Address    string `json:"address"`
	Phase      string `json:"phase"`
	Connected  bool   `json:"connected"`
	LagChanges uint64 `json:"lag_changes"`
	AgeMillis  uint64 `json:"age_millis"`
}

func standingOf(set *serverpb.StandingSet) *standingRow {
	if set == nil {
		return nil
	}
	row := &standingRow{Level: set.GetLevel(), Fallback: set.GetFallback(), Down: set.GetDown()}
	for _, s := range set.GetSlaves() {
		row.Slaves = append(row.Slaves, standbyRow{Address: s.GetAddress(), Phase: s.GetPhase(), Connected: s.GetConnected(),
			LagChanges: s.GetLagChanges(), AgeMillis: s.GetAgeMillis()})
	}
	return row
}

// standing returns the cells of a verbose row: the level that writes wait for, and the slaves
// of the first vBucket that this node leads. They are alike in all vBuckets, but for moments.
func (r Row) standing() []string {
	for i := range r.VBuckets {
		if set := r.VBuckets[i].Standing; set != nil {
			return set.cells()
		}
	}
	return nil
}

// record is the cell of what the record in the registry means for the node.
func (r Row) record() []string {
	if r.Record == "" {
		return nil
	}
	return []string{"record: " + r.Record}
}

func (s *standingRow) cells() []string {
	cells := []string{"ack=" + s.Level}
	if len(s.Down) > 0 {
		cells = append(cells, "down="+strings.Join(s.Down, ","))
	}
	switch {
	case len(s.Slaves) > 0:
	case s.Fallback:
		return append(cells, "no standby: async")
	default:
		return append(cells, "no standby: writes are refused")
	}
	for _, n := range s.Slaves {
		state := n.Phase
		if !n.Connected {
			state += ", not connected"
		}
		cells = append(cells, fmt.Sprintf("standby=%s (%s, lag %d)", n.Address, state, n.LagChanges))
	}
	return cells
}
