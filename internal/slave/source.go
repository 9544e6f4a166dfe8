package slave

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Source is a node that serves the changes of a vBucket.
type Source struct {
	// Address is where it serves gRPC, host:port.
	Address string
	DC      string
	// Status tells a leader from a follower.
	Status serverpb.RegionStatus
	// History is the one that its change numbers belong to; empty while unknown.
	History string
	// Slaves is how many follow it already.
	Slaves uint32
	// Order is that of equals: the least first.
	Order int
}

// Sources are the masters to choose from. Their methods are safe for concurrent use.
type Sources interface {
	// Candidates returns the live nodes that own or follow a vBucket's log.
	Candidates(vBucket string) []Source
	// Changed returns a channel that is closed when there may be others than
	// before the call; nil where that cannot be.
	Changed() <-chan struct{}
}

// fixed is the list of an operator.
type fixed []Source

// Fixed returns the sources at one address or several, with commas in between, the
// first of which is preferred.
func Fixed(addresses string) Sources {
	var out fixed
	for a := range strings.SplitSeq(addresses, ",") {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, Source{Address: a, Status: serverpb.RegionStatus_SECONDARY_FOLLOWER, Order: len(out)})
		}
	}
	return out
}

func (f fixed) Candidates(string) []Source { return f }

func (f fixed) Changed() <-chan struct{} { return nil }

// Rows are the sources that discovery tells of.
type Rows struct {
	database string

	mu       sync.Mutex
	byBucket map[string][]Source
	changed  chan struct{}
}

// NewRows returns sources for a database, of which there are none before Set.
func NewRows(database string) *Rows {
	return &Rows{database: database, changed: make(chan struct{})}
}

// Set says which nodes there are at present. The rows are not kept. Rows of another
// database, of slaves, and of nodes that are INACTIVE are passed over.
func (r *Rows) Set(rows []*serverpb.RegionInfo) {
	next := make(map[string][]Source)
	for _, row := range rows {
		if row.GetDatabase() != r.database || !serves(row.GetStatus()) || row.GetNodeAddress() == "" {
			continue
		}
		next[row.GetVBucket()] = append(next[row.GetVBucket()], Source{
			Address: row.GetNodeAddress(),
			DC:      row.GetDcID(),
			Status:  row.GetStatus(),
			History: row.GetHistoryID(),
			Slaves:  row.GetSlaves(),
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byBucket = next
	close(r.changed)
	r.changed = make(chan struct{})
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

// Changed implements Sources.
func (r *Rows) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// leaderOf returns the address of the leader among sources; empty where it is not
// among them.
func leaderOf(sources []Source) string {
	i := slices.IndexFunc(sources, func(s Source) bool { return s.Status == serverpb.RegionStatus_LEADER })
	if i < 0 {
		return ""
	}
	return sources[i].Address
}

// selfOf is a slave's own address.
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
