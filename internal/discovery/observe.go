package discovery

import (
	"context"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Rows returns the rows that are shown, of all vBuckets, ordered by database,
// vBucket and node address. It may be called on any node, and is as GetClusterInfo.
func (r *Registry) Rows(ctx context.Context) ([]*serverpb.RegionInfo, error) {
	out, err := r.GetClusterInfo(ctx, new(serverpb.GetClusterInfoRequest))
	return out.GetRegionInfos(), err
}

// Observation is the registry in numbers.
type Observation struct {
	// Rows are all rows that are kept, by what they are shown as. INACTIVE ones
	// are not shown.
	Rows map[serverpb.RegionStatus]int
	// VBuckets are those that have a row; Leaderless have no LEADER among them.
	VBuckets, Leaderless int
	// Disputed vBuckets have a node that leads another history than the one that is
	// shown, of another cluster mostly: two clusters were given the same names.
	Disputed int
	// UnderReplicated vBuckets have fewer masters that are shown than the cluster
	// URLs of their rows name members, or none where no row names any.
	UnderReplicated int
	// Watchers follow the registry.
	Watchers int
	// OldestHeartbeat is the age of the oldest heartbeat among the rows that have
	// not timed out, MeanHeartbeat the mean.
	OldestHeartbeat, MeanHeartbeat time.Duration
}

// Observe counts. Only the owner of the registry knows: owner tells whether this
// node is that.
func (r *Registry) Observe() (_ Observation, owner bool) {
	g := r.current.Load()
	if g == nil {
		return Observation{}, false
	}
	return g.table.observe(time.Now()), true
}

func (t *table) observe(now time.Time) Observation {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Observation{Rows: make(map[serverpb.RegionStatus]int), Watchers: len(t.watchers)}
	var sum time.Duration
	for e := t.live.Front(); e != nil; e = e.Next() {
		age := now.Sub(e.Value.(*row).heard)
		sum += age
		out.OldestHeartbeat = max(out.OldestHeartbeat, age)
	}
	if n := t.live.Len(); n > 0 {
		out.MeanHeartbeat = sum / time.Duration(n)
	}
	t.groups(filter{}, func(g *group) {
		if len(g.rows) > 0 {
			out.VBuckets++
			g.observe(&out)
		}
	})
	return out
}

func (g *group) observe(out *Observation) {
	masters, members, led, disputed := 0, 1, false, false
	for _, r := range g.rows {
		s := r.info.GetStatus()
		out.Rows[s]++
		disputed = disputed || r.claims() && originOf(r.info) != g.leading
		switch s {
		case serverpb.RegionStatus_LEADER:
			led = true
			masters++
		case serverpb.RegionStatus_PRIMARY_FOLLOWER, serverpb.RegionStatus_SECONDARY_FOLLOWER:
			masters++
		}
		if urls := r.info.GetNexusClusterUrl(); urls != "" {
			members = max(members, strings.Count(urls, ",")+1)
		}
	}
	if !led {
		out.Leaderless++
	}
	if disputed {
		out.Disputed++
	}
	if masters < members {
		out.UnderReplicated++
	}
}
