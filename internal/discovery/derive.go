package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// leaderGrace is within which time after its last heartbeat a leader keeps its
// place against one of another history: shorter than any timeout, since who was
// promoted in a dead leader's place has to be seen soon.
const leaderGrace = 3 * time.Second

// derive settles what the rows of a vBucket are shown as, and tells the watchers
// what is new. touched is a row whose content has changed; nil for none.
func (t *table) derive(g *group, touched *row, now time.Time) {
	g.elect(now, min(leaderGrace, t.times.timeout/2))
	g.choosePrimaries()
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
	case r.silent:
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

// elect chooses the leader among those that claim to be it. Within one history that
// is the one of the highest term. Terms of different histories say nothing about
// each other: there the present leader stays while it is heard, else any that is
// heard takes its place.
func (g *group) elect(now time.Time, grace time.Duration) {
	claimants := 0
	var chosen *row // of another history, or with none before
	kept := false   // the present leader's history has a claimant that is heard
	for _, r := range g.rows {
		if !r.claims() {
			continue
		}
		claimants++
		heard := now.Sub(r.heard) < grace
		if heard && g.leader != nil && sameHistory(r, g.leader) {
			kept = true
		}
		if chosen == nil || g.better(r, heard, chosen, now.Sub(chosen.heard) < grace) {
			chosen = r
		}
	}
	g.contested = claimants > 1
	if claimants == 0 {
		return // leader stays, to be remembered by its history
	}
	history := chosen
	if kept {
		history = g.leader
	}
	var best *row
	for _, r := range g.rows {
		if r.claims() && sameHistory(r, history) && (best == nil || g.outranks(r, best)) {
			best = r
		}
	}
	g.leader = best
}

// better orders claimants of any histories.
func (g *group) better(a *row, aHeard bool, b *row, bHeard bool) bool {
	if aHeard != bHeard {
		return aHeard
	}
	return g.outranks(a, b)
}

// outranks orders claimants of one history. Of equal terms the present leader's
// counts; rows are met by address, so that else the first does.
func (g *group) outranks(a, b *row) bool {
	if a.info.GetTerm() != b.info.GetTerm() {
		return a.info.GetTerm() > b.info.GetTerm()
	}
	return a == g.leader
}

func sameHistory(a, b *row) bool {
	return a.info.GetHistoryID() == b.info.GetHistoryID() && a.info.GetClusterID() == b.info.GetClusterID()
}

// choosePrimaries keeps the primary follower of each data centre while it lives,
// and chooses the one with the least address otherwise.
func (g *group) choosePrimaries() {
	for dc, r := range g.primaries {
		if !r.follows() || r.info.GetDcID() != dc {
			delete(g.primaries, dc)
		}
	}
	for _, r := range g.rows {
		if !r.follows() || g.primaries[r.info.GetDcID()] != nil {
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
