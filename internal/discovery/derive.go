package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// settle derives again what a change of a vBucket's rows may affect, and passes the
// result to the watchers. dcs are the data centres whose rows have changed.
func (t *table) settle(g *group, now time.Time, dcs ...string) {
	former := g.leader
	g.succeed(now, t.times)
	g.elect(now, t.awakeSince(now))
	t.stageLeading(g)
	for _, dc := range dcs {
		was, is := g.choosePrimary(dc)
		t.show(was, false)
		t.show(is, false)
	}
	t.show(former, false)
	t.show(g.leader, false)
}

// show publishes a row if its status has changed, or its content has, which news says.
func (t *table) show(r *row, news bool) {
	if r == nil {
		return
	}
	seen, status := r.info.GetStatus(), r.group.statusOf(r)
	if status == seen && !(news && r.visible()) {
		return
	}
	r.info = withStatus(r.info, status)
	t.publish(r)
}

// statusOf returns the status that a row is shown with; INACTIVE if it is not shown.
func (g *group) statusOf(r *row) serverpb.RegionStatus {
	switch {
	case r.silent():
		return serverpb.RegionStatus_INACTIVE
	case r.reported == serverpb.RegionStatus_LEADER && r != g.leader:
		return serverpb.RegionStatus_SECONDARY_FOLLOWER // it leads another history, or has been replaced
	case r.reported == serverpb.RegionStatus_SECONDARY_FOLLOWER && g.primaries[r.info.GetDcID()] == r:
		return serverpb.RegionStatus_PRIMARY_FOLLOWER
	default:
		return r.reported
	}
}

// elect chooses the leader among the nodes of the leading history that say that they lead:
// the one with the highest term. Of equal terms, which only nodes without Raft have, the
// current leader stays while it sends heartbeats, otherwise the least address of those that do
// counts. There is none while the database's record does not admit them. awake is since when
// heartbeats are read: what came later than that because they were not is no miss.
func (g *group) elect(now, awake time.Time) {
	late := func(r *row) bool { return now.Sub(awake) > r.patience() && r.late(now) }
	var best *row
	if b := g.origins[g.leading]; b != nil && g.admits(g.leading) {
		best = b.foremost(late)
	}
	g.contested = g.claimants > 1 || g.claimants == 1 && best == nil
	switch present := g.leader; {
	case g.claimants == 0: // it stays, as the last one
	case best != nil && present != nil && present.claims() && originOf(present.info) == g.leading &&
		present.info.GetTerm() == best.info.GetTerm() && (!late(present) || late(best)):
	default:
		g.leader = best
	}
}

// foremost returns the row with the highest term that claims to lead; nil for none. Of equal terms
// it is the least address of those whose nodes send heartbeats.
func (b *branch) foremost(late func(*row) bool) *row {
	best := b.claims.top()
	for _, r := range b.claims.rows {
		if r.info.GetTerm() == best.info.GetTerm() && !late(r) && (late(best) || lesserAddress(r, best)) {
			best = r
		}
	}
	return best
}

// choosePrimary keeps the primary follower of a data centre while it lives, and chooses
// the one with the least address otherwise.
func (g *group) choosePrimary(dc string) (was, is *row) {
	was = g.primaries[dc]
	if was != nil && was.follows() && was.info.GetDcID() == dc {
		return was, was
	}
	if is = g.followers[dc].top(); is != nil {
		g.primaries[dc] = is
	} else {
		delete(g.primaries, dc)
	}
	return was, is
}
