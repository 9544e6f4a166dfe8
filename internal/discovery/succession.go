package discovery

import (
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// leaderGrace is for how long after the leader was last heard, or gave its place up,
// no successor of its history takes it: longer than any hand-over within the history,
// and shorter than any time-out, since who was promoted in a dead leader's place has
// to be seen soon.
const leaderGrace = 3 * time.Second

// probation is for how long after the first claim to a vBucket a cluster of more nodes
// may take it over: a registry that is new hears of all nodes within that, and which of
// them comes first means nothing.
const probation = 10 * time.Second

// origin is where change numbers come from: a history of a cluster. The zero origin is
// none.
type origin struct {
	cluster, history string
	known            bool
}

func originOf(r *serverpb.RegionInfo) origin {
	return origin{cluster: r.GetClusterID(), history: r.GetHistoryID(), known: true}
}

// foreign tells whether a row is of another cluster than the one that the vBucket
// belongs to: it has data of its own under the same name. Nodes that name no cluster
// are not told apart.
func (g *group) foreign(r *row) bool {
	theirs, ours := r.info.GetClusterID(), g.leading.cluster
	return theirs != "" && ours != "" && theirs != ours
}

// succeed replaces the leading history where another one may lead and a node of it
// claims to. None may for leaderGrace after the leader was last heard, unless it has
// gone over itself. Then
//   - a history of the same cluster may if a master of it was one of the leading
//     history's nodes before: it was restored, or promoted;
//   - another history of the same cluster may once no master of the leading one was
//     heard for the time-out, as it may be an older one that is back;
//   - a history of another cluster may once no node of the leading cluster, slaves
//     among them, was heard for the time-out: till then its data is there.
func (g *group) succeed(now time.Time, t times) {
	var heirs, claimants []origin
	clusterLives, historyLives := false, false
	for _, r := range g.rows {
		from, lives := originOf(r.info), now.Sub(r.heard) < t.timeout
		switch {
		case from == g.leading:
			historyLives = historyLives || lives && r.reported != serverpb.RegionStatus_ACTIVE_SLAVE
			if r.claims() && r.heard.After(g.claimed) {
				g.claimed = r.heard
			}
		case r.claims():
			claimants = append(claimants, from)
		}
		clusterLives = clusterLives || lives && from.cluster == g.leading.cluster
		if from.cluster == g.leading.cluster && r.before == g.leading && r.masters() {
			heirs = append(heirs, from)
		}
	}
	if !g.leading.known && len(claimants) > 0 {
		g.leading, g.claimed, g.since = claimants[0], now, now
	}
	if now.Sub(g.since) < probation {
		if more, found := g.outnumbering(claimants); found {
			g.leading, g.claimed = more, now
		}
	}
	if now.Sub(g.claimed) < min(leaderGrace, t.timeout/2) {
		return
	}
	claimants = slices.DeleteFunc(claimants, func(o origin) bool {
		switch {
		case g.leading.history == "", slices.Contains(heirs, o):
			return false
		case o.cluster == g.leading.cluster:
			return historyLives
		default:
			return clusterLives
		}
	})
	if len(claimants) > 0 {
		g.leading, g.claimed = claimants[0], now
	}
}

// masters tells whether a node serves the log of a vBucket itself.
func (r *row) masters() bool {
	return r.claims() || r.follows()
}

// outnumbering finds, among histories of other clusters than the leading one, that of
// the cluster of which most nodes live, where those are more than the leading one's.
func (g *group) outnumbering(claimants []origin) (best origin, found bool) {
	if len(claimants) == 0 {
		return origin{}, false
	}
	nodes := make(map[string]int)
	for _, r := range g.rows {
		if !r.silent {
			nodes[r.info.GetClusterID()]++
		}
	}
	if nodes[g.leading.cluster] == 0 {
		return origin{}, false // they are yet to be stored
	}
	best = g.leading
	for _, o := range claimants {
		if nodes[o.cluster] > nodes[best.cluster] {
			best = o
		}
	}
	return best, best != g.leading
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

// stageLeading has the leading history stored where it is another one than before.
func (t *table) stageLeading(g *group) {
	if g.leading != g.recorded {
		t.stage(leadingChange(g.place, g.leading))
	}
}

// applyLeading notes which leading history is stored. Where another one
// has taken the lead since, that is yet to be stored.
func (t *table) applyLeading(c *change, now time.Time) {
	g := t.groupAt(c.key.place)
	g.recorded = origin{}
	if c.kind == leads {
		g.recorded = originOf(c.info)
	}
	switch {
	case !g.leading.known && g.recorded.known:
		g.leading, g.claimed, g.since = g.recorded, now, now
		t.derive(g, nil, now)
	case len(g.rows) > 0:
		t.stageLeading(g)
	case c.kind == forgotten:
		t.forget(g)
	}
}

// release forgets a vBucket that has no rows any more, in the store too.
func (t *table) release(g *group) {
	if len(g.rows) > 0 {
		return
	}
	t.forget(g)
	if g.recorded.known {
		t.stage(change{kind: forgotten, key: leadingKey(g.place)})
	}
}

func (t *table) forget(g *group) {
	groups := t.databases[g.database]
	delete(groups, g.vBucket)
	if len(groups) == 0 {
		delete(t.databases, g.database)
	}
}
