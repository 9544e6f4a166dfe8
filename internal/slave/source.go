package slave

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/fsm/history"
	"github.com/dkvdb/dkv/internal/signal"
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
	// slave reports that it is a slave itself.
	slave bool
	// awaits reports that it owns the log and waits for this copy.
	awaits bool
}

func (s Source) identity() history.Identity {
	return history.Identity{Cluster: s.Cluster, History: s.History}
}

// foreignTo reports whether a source is known to have another history, but for one that a
// promotion has begun since.
func (s Source) foreignTo(id history.Identity) bool {
	return id.History != "" && s.History != "" && s.identity() != id && !s.laterThan(id)
}

// laterThan reports whether a source claims a greater era of the state's cluster.
func (s Source) laterThan(id history.Identity) bool {
	return id.History != "" && s.Cluster == id.Cluster && era.Of(s.History) > era.Of(id.History)
}

// deadFor reports whether a source is of an era before the state's: it is never followed.
func (s Source) deadFor(id history.Identity) bool {
	return s.History != "" && s.Cluster == id.Cluster && era.Of(s.History) < era.Of(id.History)
}

// Sources are the masters to choose from. Their methods are safe for concurrent use.
type Sources interface {
	// Candidates returns the live nodes that own or follow a vBucket's log; those that did last
	// if there are none.
	Candidates(vBucket string) []Source
	// Live reports whether the candidates are current, as opposed to those that were known
	// last.
	Live() bool
	// Changed returns a channel that is closed when the candidates may have changed since
	// the call; nil if they never change.
	Changed() <-chan struct{}
}

// fixed is the list that an operator has configured.
type fixed []Source

// Fixed returns the sources at the given addresses, the
// first of which is preferred.
func Fixed(addresses ...string) Sources {
	out := make(fixed, len(addresses))
	for i, a := range addresses {
		out[i] = Source{Address: a, Status: serverpb.RegionStatus_SECONDARY_FOLLOWER, Order: i, Chosen: true}
	}
	return out
}

func (f fixed) Candidates(string) []Source { return f }

func (f fixed) Live() bool { return true }

func (f fixed) Changed() <-chan struct{} { return nil }

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

// Candidates implements Sources.
func (r *Rows) Candidates(vBucket string) []Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byBucket[vBucket]
}

// Live implements Sources.
func (r *Rows) Live() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

// Changed implements Sources.
func (r *Rows) Changed() <-chan struct{} { return r.changed.Changed() }

// leaderOf returns the address of the leader of a history among sources, or of one that a
// promotion has begun since; empty if it is not among them. The leader of another history is
// of no use to readers of this one. Without a state any leader counts, unless the sources
// have several histories.
func leaderOf(sources []Source, id history.Identity) string {
	later := ""
	for _, s := range sources {
		if s.Status != serverpb.RegionStatus_LEADER {
			continue
		}
		if s.laterThan(id) {
			later = s.Address
		}
		other := func(o Source) bool { return o.identity() != s.identity() }
		if s.identity() == id || id.History == "" && !slices.ContainsFunc(sources, other) {
			return s.Address
		}
	}
	return later
}

// selfOf returns a slave's own address.
func selfOf(r *serverpb.Replica) string {
	return net.JoinHostPort(r.GetHostname(), strconv.Itoa(int(r.GetPort())))
}

// sourceOf returns the source at an address, and whether it is among sources.
func sourceOf(sources []Source, address string) (Source, bool) {
	for _, s := range sources {
		if s.Address == address {
			return s, true
		}
	}
	return Source{}, false
}

// Addresses returns the nodes that the puller asks and names: its masters, the one that it follows
// and the leader, some of them maybe empty or more than once.
func (p *Puller) Addresses() []string {
	out := []string{p.Status().Master, p.Leader()}
	for _, s := range p.candidates() {
		out = append(out, s.Address)
	}
	return out
}
