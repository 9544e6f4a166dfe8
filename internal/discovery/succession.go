package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// leaderGrace is how long after the leader was last heard, or stopped leading, no
// successor of its history replaces it: longer than any hand-over within the history, and
// shorter than any timeout, since a node that was promoted to replace a dead leader must
// be shown soon.
const leaderGrace = 3 * time.Second

// origin is what change numbers belong to: a history of a cluster. The zero origin is
// none.
type origin struct {
	cluster, history string
	known            bool
}

func originOf(r *serverpb.RegionInfo) origin {
	return origin{cluster: r.GetClusterID(), history: r.GetHistoryID(), known: true}
}

// succeed replaces the leading history if another one may lead and a node of it claims
// to. None may for leaderGrace after the leader was last heard, unless the leader itself
// has moved to it. After that, a history may if one of its masters was a node of the
// leading history before: it was restored, or promoted. Any other may once no master of
// the leading history was heard for the timeout, since it may be an older one that came
// back.
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

// candidate returns an origin with a node that claims to lead, that is not the leading one
// and that matches; of several, the one with the least address.
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

// leave records a row's origin before its content is replaced.
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

// leadingKey is the key of a vBucket's leading history: among its rows, as the row of no
// node.
func leadingKey(p place) rowKey { return rowKey{place: p} }

// leadingChange stores a vBucket's leading history, so that the next owner of the registry
// knows it.
func leadingChange(p place, o origin) change {
	return change{kind: leads, key: leadingKey(p), info: &serverpb.RegionInfo{
		Database: p.database, VBucket: p.vBucket, ClusterID: o.cluster, HistoryID: o.history,
	}}
}

// stageFirst stores the first claim to a vBucket together with, and not before, the history
// that it makes the leading one.
func (t *table) stageFirst(in *serverpb.RegionInfo) {
	if in.GetStatus() != serverpb.RegionStatus_LEADER {
		return
	}
	if g := t.groupAt(keyOf(in).place); !g.leading.known && !g.awaited {
		g.awaited = true
		t.stage(leadingChange(g.place, originOf(in)))
	}
}

// stageLeading stores the leading history if it has changed.
func (t *table) stageLeading(g *group) {
	if g.leading != g.recorded {
		t.stage(leadingChange(g.place, g.leading))
	}
}

// applyLeading records which leading history is stored. If another one leads by then, that
// is stored next.
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

// releaseGroup deletes a vBucket without rows that no cluster holds, from the store too.
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
