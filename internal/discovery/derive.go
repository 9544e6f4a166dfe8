package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// derive settles what the rows of a vBucket are shown as, and tells the watchers
// what is new. touched is a row whose content has changed; nil for none.
func (t *table) derive(g *group, touched *row, now time.Time) {
	g.succeed(now, t.times)
	g.elect()
	g.choosePrimaries()
	t.stageLeading(g)
	for _, r := range g.rows {
		seen, status := r.info.GetStatus(), g.statusOf(r)
		if status == seen && (r != touched || !r.visible()) {
			continue
		}
		if status != seen {
			r.info = withStatus(r.info, status)
		}
		t.publish(r)
	}
}

// statusOf is what a row is shown as; INACTIVE where it is not.
func (g *group) statusOf(r *row) serverpb.RegionStatus {
	switch {
	case r.silent || g.foreign(r):
		return serverpb.RegionStatus_INACTIVE
	case r.reported == serverpb.RegionStatus_LEADER && r != g.leader:
		return serverpb.RegionStatus_SECONDARY_FOLLOWER // it does not know yet, or any more
	case r.reported == serverpb.RegionStatus_SECONDARY_FOLLOWER && g.primaries[r.info.GetDcID()] == r:
		return serverpb.RegionStatus_PRIMARY_FOLLOWER
	default:
		return r.reported
	}
}

func (r *row) claims() bool {
	return !r.silent && r.reported == serverpb.RegionStatus_LEADER
}

// elect chooses the leader among those of the leading history that claim to be it: the
// one of the highest term. Of equal terms the present leader's counts, else the one with
// the least address.
func (g *group) elect() {
	claimants := 0
	var best *row
	for _, r := range g.rows {
		if !r.claims() {
			continue
		}
		claimants++
		if originOf(r.info) == g.leading && (best == nil || g.outranks(r, best)) {
			best = r
		}
	}
	g.contested = claimants > 1 || claimants == 1 && best == nil
	if claimants > 0 {
		g.leader = best // otherwise it stays, as the last one
	}
}

func (g *group) outranks(a, b *row) bool {
	if a.info.GetTerm() != b.info.GetTerm() {
		return a.info.GetTerm() > b.info.GetTerm()
	}
	return a == g.leader
}

// choosePrimaries keeps the primary follower of each data centre while it lives,
// and chooses the one with the least address otherwise.
func (g *group) choosePrimaries() {
	for dc, r := range g.primaries {
		if !r.follows() || g.foreign(r) || r.info.GetDcID() != dc {
			delete(g.primaries, dc)
		}
	}
	for _, r := range g.rows {
		if !r.follows() || g.foreign(r) || g.primaries[r.info.GetDcID()] != nil {
			continue
		}
		if g.primaries == nil {
			g.primaries = make(map[string]*row)
		}
		g.primaries[r.info.GetDcID()] = r
	}
}

func (r *row) follows() bool {
	return !r.silent && r.reported == serverpb.RegionStatus_SECONDARY_FOLLOWER
}
