package discovery

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Rows returns the rows that are shown, of all vBuckets, ordered by database, vBucket and
// node address. It answers on any node, as GetClusterInfo does.
func (r *Registry) Rows(ctx context.Context) ([]*serverpb.RegionInfo, error) {
	out, err := r.GetClusterInfo(ctx, new(serverpb.GetClusterInfoRequest))
	return out.GetRegionInfos(), err
}

// Summary counts what the registry knows. It may be called on any node, and waits for the
// owner's answer.
func (r *Registry) Summary(ctx context.Context) (*serverpb.RegistrySummary, error) {
	out, err := r.GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{SummaryOnly: true})
	return out.GetSummary(), err
}

// Observation is the registry in numbers.
type Observation struct {
	// Rows counts all rows that are kept, by the status that they are shown with.
	// INACTIVE ones are not shown.
	Rows map[serverpb.RegionStatus]int
	// VBuckets counts the vBuckets that have a row, Leaderless those without a LEADER
	// among their rows.
	VBuckets, Leaderless int
	// Disputed counts the vBuckets with a node that leads another history than the one
	// shown, or with a node of another cluster that was rejected recently: two clusters
	// were given the same names.
	Disputed int
	// UnderReplicated counts the vBuckets with fewer masters that send heartbeats than
	// their rows' cluster URLs name members, or with none if no row names any.
	UnderReplicated int
	// Refused counts the rows that were rejected since this node has owned the registry,
	// by reason: "cluster" for another cluster or layout than the one that holds the
	// database, "limit" for rows beyond a limit.
	Refused map[string]uint64
	// Watchers counts the clients that follow the registry.
	Watchers int
	// OldestHeartbeat is the age of the oldest heartbeat among the rows that have not
	// timed out.
	OldestHeartbeat time.Duration
}

// Observe counts. Only the owner of the registry can: owner reports whether this node is
// it.
func (r *Registry) Observe() (_ Observation, owner bool) {
	g := r.current.Load()
	if g == nil {
		return Observation{}, false
	}
	return g.table.observe(time.Now()), true
}

func (o Observation) summary() *serverpb.RegistrySummary {
	return &serverpb.RegistrySummary{
		VBuckets:        uint64(o.VBuckets),
		Leaderless:      uint64(o.Leaderless),
		Disputed:        uint64(o.Disputed),
		UnderReplicated: uint64(o.UnderReplicated),
	}
}

func (t *table) observe(now time.Time) Observation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Observation{Rows: make(map[serverpb.RegionStatus]int), Watchers: t.countWatchers(), Refused: maps.Clone(t.refusals)}
	for _, q := range t.queues[:silent] {
		for e := q.Front(); e != nil; e = e.Next() {
			out.OldestHeartbeat = max(out.OldestHeartbeat, now.Sub(e.Value.(*row).heard))
		}
	}
	t.groups(filter{}, func(g *group) {
		if len(g.rows) > 0 {
			out.VBuckets++
			g.observe(&out, now, t.times)
		}
	})
	return out
}

func (g *group) observe(out *Observation, now time.Time, t times) {
	masters, members, led := 0, 1, false
	for _, r := range g.rows {
		s := r.info.GetStatus()
		out.Rows[s]++
		led = led || s == serverpb.RegionStatus_LEADER
		if masterStatus(s) && !r.late(now) {
			masters++
		}
		if urls := r.info.GetNexusClusterUrl(); urls != "" {
			members = max(members, strings.Count(urls, ",")+1)
		}
	}
	if !led {
		out.Leaderless++
	}
	others := g.claimants
	if b := g.origins[g.leading]; b != nil {
		others -= b.claims.Len()
	}
	if others > 0 || now.Sub(g.disputed) < t.timeout {
		out.Disputed++
	}
	if masters < members {
		out.UnderReplicated++
	}
}
