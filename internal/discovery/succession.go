package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// leaderGrace is for how long after the leader was last heard, or gave its place up,
// no successor of its history takes it: longer than any hand-over within the history,
// and shorter than any time-out, since who was promoted in a dead leader's place has
// to be seen soon.
const leaderGrace = 3 * time.Second

// origin is where change numbers come from: a history of a cluster. The zero origin is
// none.
type origin struct {
	cluster, history string
	known            bool
}

func originOf(r *serverpb.RegionInfo) origin {
	return origin{cluster: r.GetClusterID(), history: r.GetHistoryID(), known: true}
}

// succeed replaces the leading history if another one may lead and a node of it claims
// to. None may for leaderGrace after the leader was last heard, unless it has gone over
// itself. Then a history may if a master of it was one of the leading history's nodes
// before: it was restored, or promoted. Another one may once no master of the leading
// history was heard for the time-out, as it may be an older one that is back.
func (g *group) succeed(now time.Time, t times) {
	own := g.origins[g.leading]
	others := g.claimants
	if own != nil {
		others -= own.claims.Len()
	}
	switch {
	case others == 0:
		return
	case !g.leading.known:
		if o, found := g.candidate(func(*branch) bool { return true }); found {
			g.leading, g.claimed = o, now
		}
		return
	case now.Sub(g.claimed) < min(leaderGrace, t.timeout/2):
		return
	}
	next, found := g.candidate(func(b *branch) bool { return b.from[g.leading] > 0 })
	if lives := own != nil && now.Sub(own.heard) < t.timeout; !found && (!lives || g.leading.history == "") {
		next, found = g.candidate(func(*branch) bool { return true })
	}
	if found {
		g.leading, g.claimed = next, now
	}
}

// candidate finds the origin that claims to lead, is not the leading one and matches;
// of several, that of the least address.
func (g *group) candidate(matches func(*branch) bool) (best origin, found bool) {
	var first *row
	for o, b := range g.origins {
		r := b.claims.top()
		if r == nil || o == g.leading || !matches(b) {
			continue
		}
		if first == nil || r.key.node < first.key.node {
			best, first, found = o, r, true
		}
	}
	return best, found
}

// leave notes, before a row takes the content in, where it comes from.
func (g *group) leave(r *row, in *serverpb.RegionInfo, now time.Time) {
	if r == g.leader && r.claims() {
		g.claimed = now
	}
	from := originOf(r.info)
	if from == originOf(in) || from.history == "" {
		return // a node that is starting may not know yet
	}
	r.before = from
	if r == g.leader {
		g.claimed = time.Time{} // it takes its place with it
	}
}

// leadingKey is where the leading history of a vBucket is stored: among its rows, as
// that of no node.
func leadingKey(p place) rowKey { return rowKey{place: p} }

// leadingChange writes a vBucket's leading history down, so that the next owner of the
// registry knows it too.
func leadingChange(p place, o origin) change {
	return change{kind: leads, key: leadingKey(p), info: &serverpb.RegionInfo{
		Database: p.database, VBucket: p.vBucket, ClusterID: o.cluster, HistoryID: o.history,
	}}
}

// stageFirst has the first claim to a vBucket stored together with, and not before,
// what it makes of its history.
func (t *table) stageFirst(in *serverpb.RegionInfo) {
	if in.GetStatus() != serverpb.RegionStatus_LEADER {
		return
	}
	if g := t.groupAt(keyOf(in).place); !g.leading.known && !g.awaited {
		g.awaited = true
		t.stage(leadingChange(g.place, originOf(in)))
	}
}

// stageLeading has the leading history stored if it is another one than before.
func (t *table) stageLeading(g *group) {
	if g.leading != g.recorded {
		t.stage(leadingChange(g.place, g.leading))
	}
}

// applyLeading notes which leading history is stored. Another one may have taken the
// lead since; that is yet to be stored.
func (t *table) applyLeading(c *change, now time.Time) {
	g := t.groupAt(c.key.place)
	g.recorded = origin{}
	if c.kind == leads {
		g.recorded = originOf(c.info)
	}
	switch {
	case !g.leading.known && g.recorded.known && len(g.rows) > 0:
		g.leading, g.claimed = g.recorded, now
		t.settle(g, now)
	case len(g.rows) > 0 && g.leading.known:
		t.stageLeading(g)
	default:
		t.releaseGroup(g)
	}
}

// releaseGroup forgets a vBucket that has no rows any more and that no cluster holds,
// in the store too.
func (t *table) releaseGroup(g *group) {
	if len(g.rows) > 0 || g.cluster != "" {
		return
	}
	if g.recorded.known {
		t.stage(change{kind: forgotten, key: leadingKey(g.place)})
	}
	delete(g.database.groups, g.vBucket)
	t.releaseDatabase(g.database)
}
