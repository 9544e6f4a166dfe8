package discovery

import (
	"cmp"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
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
// to.
func (g *group) succeed(now time.Time, t times) {
	own := g.origins[g.leading]
	others := g.claimants
	if own != nil {
		others -= own.claims.Len()
	}
	if others == 0 {
		return
	}
	if next, found := g.successor(own, now, t); found {
		g.leading, g.claimed = next, now
	}
}

// successor returns the history that takes the lead. One of a greater era of the cluster does
// at once: a promotion has made it, which is decided once and for all. So does one that the
// database's record admits, if it does not admit the leading one. No other one takes it for
// leaderGrace after the leader was last heard, unless the leader itself has moved to it. After
// that, a history may if one of its masters was a node of the leading history before: it was
// restored. Any other may once no master of the leading history was heard for the timeout,
// since it may be an older one that came back. own is the leading history's rows.
func (g *group) successor(own *branch, now time.Time, t times) (origin, bool) {
	if !g.leading.known || !g.admits(g.leading) {
		return g.candidate(func(origin, *branch) bool { return true })
	}
	if next, found := g.candidate(func(o origin, _ *branch) bool { return g.promoted(g.leading, o) }); found {
		return next, true
	}
	if now.Sub(g.claimed) < min(leaderGrace, t.timeout/2) {
		return origin{}, false
	}
	if next, found := g.candidate(func(_ origin, b *branch) bool { return b.from[g.leading] > 0 }); found {
		return next, true
	}
	if own != nil && now.Sub(own.heard) < t.timeout && g.leading.history != "" {
		return origin{}, false
	}
	return g.candidate(func(origin, *branch) bool { return true })
}

// admits reports whether the nodes of a history may lead: those of the record's era, if the
// database has a record.
func (g *group) admits(o origin) bool {
	r := g.database.record
	return r == nil || era.Of(o.history) == r.GetEra()
}

// promoted reports whether a history is of a later era of the same cluster than another one.
func (g *group) promoted(from, to origin) bool {
	return from.cluster == to.cluster && era.Of(to.history) > era.Of(from.history)
}

// candidate returns an origin with a node that claims to lead, that is not the leading one
// nor of an era before it, and that matches; of several, one of the greatest era, and then the
// one with the least address.
func (g *group) candidate(matches func(origin, *branch) bool) (best origin, found bool) {
	var first *row
	for o, b := range g.origins {
		r := b.claims.top()
		if r == nil || o == g.leading || !g.admits(o) || !matches(o, b) {
			continue
		}
		if g.leading.known && g.admits(g.leading) && g.promoted(o, g.leading) {
			continue
		}
		if first == nil || cmp.Or(cmp.Compare(era.Of(best.history), era.Of(o.history)), cmp.Compare(r.key.node, first.key.node)) < 0 {
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

// forgetLeading has no history lead a vBucket, in the store too.
func (t *table) forgetLeading(g *group) {
	g.leading, g.awaited = origin{}, false
	if g.recorded.known {
		t.stage(change{kind: forgotten, key: leadingKey(g.place)})
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

// follow has the record of a database decide which of its histories lead. Records are kept
// when all rows are gone, and take no database's room then.
func (t *table) follow(r *peerpb.Record, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.records[r.GetDatabase()]; known != nil && known.GetVersion() >= r.GetVersion() {
		return
	}
	t.records[r.GetDatabase()] = r
	d := t.databases[r.GetDatabase()]
	if d == nil {
		return
	}
	d.record = r
	for _, g := range d.groups {
		t.settle(g, now)
	}
}
