package source

import (
	"maps"
	"slices"
	"sync"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/signal"
)

// Rows are the sources that discovery lists.
type Rows struct {
	database string
	// chains has slaves be candidates too; nil has not.
	chains *chains

	mu       sync.Mutex
	byBucket map[string][]Source
	live     bool

	// changed is raised when byBucket or live have changed.
	changed signal.Signal
}

// NewRows returns sources for a database, of which there are none before Set.
func NewRows(database string) *Rows {
	return &Rows{database: database}
}

// NewChainedRows is NewRows for a slave at an address that follows slaves of its own data
// centre rather than masters elsewhere.
func NewChainedRows(database, dc, self string) *Rows {
	return &Rows{database: database, chains: &chains{dc: dc, self: self}}
}

// Set replaces the sources by those in the registry's rows: the current ones if live is
// set, otherwise those that were known last. It does not keep the rows. Rows of another
// database and of INACTIVE nodes are ignored, and those of slaves unless slaves are followed. The
// sources of a vBucket stay if the registry names none any more.
func (r *Rows) Set(rows []*serverpb.RegionInfo, live bool) {
	next := make(map[string][]Source)
	ours := make(map[string][]*serverpb.RegionInfo)
	for _, row := range rows {
		if row.GetDatabase() != r.database || row.GetNodeAddress() == "" {
			continue
		}
		if r.chains != nil {
			ours[row.GetVBucket()] = append(ours[row.GetVBucket()], row)
		}
		if serves(row.GetStatus()) {
			next[row.GetVBucket()] = append(next[row.GetVBucket()], sourceOfRow(row))
		}
	}
	for vBucket, rows := range ours {
		if more := r.chains.sources(rows); len(more) > 0 {
			next[vBucket] = append(next[vBucket], more...)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for vBucket, known := range r.byBucket {
		if len(next[vBucket]) == 0 { // they may live, and not reach the registry
			next[vBucket] = known
		}
	}
	if r.live == live && maps.EqualFunc(r.byBucket, next, slices.Equal) {
		return // most news is of other nodes
	}
	r.byBucket, r.live = next, live
	r.changed.Raise()
}

func serves(s serverpb.RegionStatus) bool {
	switch s {
	case serverpb.RegionStatus_LEADER, serverpb.RegionStatus_PRIMARY_FOLLOWER, serverpb.RegionStatus_SECONDARY_FOLLOWER:
		return true
	default:
		return false
	}
}

// Candidates implements slave.Sources.
func (r *Rows) Candidates(vBucket string) []Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byBucket[vBucket]
}

// Live implements slave.Sources.
func (r *Rows) Live() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

// Changed implements slave.Sources.
func (r *Rows) Changed() <-chan struct{} { return r.changed.Changed() }
