// Package condition is the one judge of how a node is. It judges each vBucket once, from
// what its replica says, and the node from its vBuckets. Everything that shows a
// condition to the outside presents the result and judges nothing itself: the health
// document, the probes, gRPC's health checks, the rows in the registry, the metrics and
// the administrative documents.
//
// There are two depths. Readiness is cheap and is looked at all the time; Node, which
// holds the Readiness, reads the whole status of each replica and has the reasons.
package condition

import (
	"errors"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/replica"
)

// Facts are what the readiness of a vBucket is judged by. A role reads them from its
// replica, at next to no cost.
type Facts struct {
	// Cluster is the id of the cluster whose state the replica has; empty while unknown.
	Cluster string
	Mode    replica.Mode
	State   replica.State
	// Readable reports whether the replica answers reads.
	Readable bool
	// Stale is why a copy should not be read from although it answers; nil if it may be.
	Stale error
	// Leads reports whether the replica owns the log and can serve as its owner.
	Leads bool
	// Age is for how long the state may not have been the newest any more.
	Age time.Duration
	// Master is the node that a copy follows; empty for none.
	Master string
}

// Fitness is the readiness of one vBucket.
type Fitness struct {
	// Readable reports whether reads are answered, Served whether they should be sent
	// here: a member of a cluster whose storage has failed answers reads, and others
	// serve in its place.
	Readable, Served bool
	// Stale is why a copy should not be read from; nil if it may be.
	Stale error
	// Part is what the node does for the vBucket while it accepts requests.
	Part serverpb.RegionStatus
	// Master is the node that a copy follows; empty for none.
	Master string
}

// Fit judges a vBucket. freshFor is how lately a replica's state must have been confirmed
// to be the newest for it to count as caught up, and for a leader to count as one: a
// leader that is cut off does not know that another one leads.
func Fit(f Facts, freshFor time.Duration) Fitness {
	return Fitness{
		Readable: f.Readable,
		Served:   f.Readable && !(f.Mode == replica.ModeRaft && f.State == replica.Failed),
		Stale:    f.Stale,
		Part:     f.part(freshFor),
		Master:   f.Master,
	}
}

func (f *Facts) part(freshFor time.Duration) serverpb.RegionStatus {
	takesPart := f.State == replica.Serving || f.State == replica.Restoring
	switch {
	case !f.Readable:
	case f.Mode == replica.ModeStream:
		if f.Stale == nil {
			return serverpb.RegionStatus_ACTIVE_SLAVE
		}
	case f.Cluster == "": // the log has yet to say whose it is
	case !takesPart, f.Age > freshFor:
	case f.Leads:
		return serverpb.RegionStatus_LEADER
	default:
		return serverpb.RegionStatus_SECONDARY_FOLLOWER
	}
	return serverpb.RegionStatus_INACTIVE
}

// Readiness is whether a node can serve.
type Readiness struct {
	// Starting is why nothing is served yet; nil once the role is open.
	Starting error
	// Accepts reports whether the gRPC server accepts requests: it does not before the
	// first state is readable, nor while it drains.
	Accepts bool
	// Fitness has an element for each vBucket, in hash order.
	Fitness []Fitness
}

// Readable reports whether reads of every vBucket are served here.
func (r *Readiness) Readable() bool {
	if r.Starting != nil {
		return false
	}
	for _, f := range r.Fitness {
		if !f.Served {
			return false
		}
	}
	return true
}

// Stale is why the copies here should not be read from; nil if they may be.
func (r *Readiness) Stale() error {
	for _, f := range r.Fitness {
		if f.Stale != nil {
			return f.Stale
		}
	}
	return nil
}

// ShouldAccept reports whether clients should be sent here: reads are served, and are not
// too old. Whether writes are accepted is answered to each of them.
func (r *Readiness) ShouldAccept() bool { return r.Readable() && r.Stale() == nil }

// Serving reports whether requests are accepted and served.
func (r *Readiness) Serving() bool { return r.Accepts && r.Readable() }

// Part is what the node does for a vBucket, by its position in hash order.
func (r *Readiness) Part(i int) serverpb.RegionStatus {
	if r.Starting != nil || !r.Accepts {
		return serverpb.RegionStatus_INACTIVE
	}
	return r.Fitness[i].Part
}

// Parts is what the node does for its vBuckets, in hash order.
func (r *Readiness) Parts() []serverpb.RegionStatus {
	out := make([]serverpb.RegionStatus, len(r.Fitness))
	for i := range out {
		out[i] = r.Part(i)
	}
	return out
}

var errNotAccepting = errors.New("gRPC is starting or draining")

// Requests is why requests are not accepted; nil if they are.
func (r *Readiness) Requests() error {
	switch {
	case r.Starting != nil:
		return r.Starting
	case r.Stale() != nil:
		return r.Stale()
	case !r.Accepts:
		return errNotAccepting
	}
	return nil
}

// AskEach spreads the questions that replicas ask their leaders: with so many vBuckets,
// each asks every so many times AskEach, or once a second if that is longer.
const AskEach = 20 * time.Millisecond

// FreshFor is how lately the state of one of so many vBuckets must have been confirmed to
// be the newest for Fit to take it for caught up.
func FreshFor(vBuckets int) time.Duration {
	const missed = 3 // questions
	return missed * max(time.Second, time.Duration(vBuckets)*AskEach)
}
