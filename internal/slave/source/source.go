package source

import (
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
)

// Source is a node that serves the changes of a vBucket.
type Source struct {
	// Address is its gRPC address, host:port.
	Address string
	DC      string
	// Status says whether it is a leader or a follower.
	Status serverpb.RegionStatus
	// Cluster and History identify the log of its change numbers; empty while unknown.
	Cluster, History string
	// Slaves is the number of slaves that follow it.
	Slaves uint32
	// Order decides between equals: the least is preferred.
	Order int
	// Chosen reports that an operator has named it, so that a state of its cluster may
	// replace one of another cluster.
	Chosen bool
	// Awaits reports that it owns the log and waits for this copy.
	Awaits bool
	// slave reports that it is a slave itself.
	slave bool
}

// identity identifies the log of its change numbers.
func (s Source) identity() history.Identity {
	return history.Identity{Cluster: s.Cluster, History: s.History}
}

// ForeignTo reports whether a source is known to have another history, but for one that a
// promotion has begun since.
func (s Source) ForeignTo(id history.Identity) bool {
	return id.History != "" && s.History != "" && s.identity() != id && !s.LaterThan(id)
}

// LaterThan reports whether a source claims a greater era of the state's cluster.
func (s Source) LaterThan(id history.Identity) bool {
	return id.History != "" && s.Cluster == id.Cluster && era.Of(s.History) > era.Of(id.History)
}

// DeadFor reports whether a source is of an era before the state's: it is never followed.
func (s Source) DeadFor(id history.Identity) bool {
	return s.History != "" && s.Cluster == id.Cluster && era.Of(s.History) < era.Of(id.History)
}

// List is a list of sources that stays as it is, as an operator has configured it.
type List []Source

// Fixed returns the sources at the given addresses, the
// first of which is preferred.
func Fixed(addresses ...string) List {
	out := make(List, len(addresses))
	for i, a := range addresses {
		out[i] = Source{Address: a, Status: serverpb.RegionStatus_SECONDARY_FOLLOWER, Order: i, Chosen: true}
	}
	return out
}

// Candidates returns all sources, whatever the vBucket.
func (l List) Candidates(string) []Source { return l }

// Live reports that they are current.
func (List) Live() bool { return true }

// Changed returns nil: they never change.
func (List) Changed() <-chan struct{} { return nil }

// Leader returns the address of the leader of a history among sources, or of one that a
// promotion has begun since; empty if it is not among them. The leader of another history is
// of no use to readers of this one. Without a state any leader counts, unless the sources
// have several histories.
func Leader(sources []Source, id history.Identity) string {
	later := ""
	for _, s := range sources {
		if s.Status != serverpb.RegionStatus_LEADER {
			continue
		}
		if s.LaterThan(id) {
			later = s.Address
		}
		other := func(o Source) bool { return o.identity() != s.identity() }
		if s.identity() == id || id.History == "" && !slices.ContainsFunc(sources, other) {
			return s.Address
		}
	}
	return later
}

// At returns the source at an address, and whether it is among sources.
func At(sources []Source, address string) (Source, bool) {
	for _, s := range sources {
		if s.Address == address {
			return s, true
		}
	}
	return Source{}, false
}
