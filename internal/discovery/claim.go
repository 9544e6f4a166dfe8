package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// database is the rows of one database, which one cluster holds at a time: the one that
// registered first. It holds each vBucket by its cluster id (group.cluster), and all of
// them by the layout.
type database struct {
	name   string
	groups map[string]*group // by vBucket
	weight int
	// layout is the holder's layout, recorded the layout that is stored.
	layout, recorded layout
	// unstored reports whether the layout could not be stored, which is tried again.
	unstored bool
	// claims counts the vBuckets that a cluster holds.
	claims int
	// held is when a node that names the holder, or its layout, was last heard.
	held time.Time
	// barred are the clusters that the database was taken from, with the time until which
	// they may not register.
	barred map[string]time.Time
	// record is its record, as in table.records; nil if it has none.
	record *peerpb.Record
}

func (t *table) databaseAt(name string) *database {
	d := t.databases[name]
	if d == nil {
		d = &database{name: name, groups: make(map[string]*group), record: t.records[name]}
		t.databases[name] = d
	}
	return d
}

// holder returns a vBucket that a cluster holds, for messages; nil for none.
func (d *database) holder() *group {
	var first *group
	for _, g := range d.groups {
		if g.cluster != "" && (first == nil || g.compare(first.place) < 0) {
			first = g
		}
	}
	return first
}

func (d *database) isHeld() bool { return d.layout.known() || d.claims > 0 }

const howToRelease = "give one of them another database name; or, if the current holder is gone, release it: dkvctl -releaseDatabase %s (that happens by itself %v after its last heartbeat)"

// stranger returns an error if the row of a node, which may be a master, must not be
// registered in its database because another cluster or layout holds that.
func (t *table) stranger(in *serverpb.RegionInfo, master bool, now time.Time) error {
	d := t.databases[in.GetDatabase()]
	if d == nil {
		return nil
	}
	why := ""
	g := d.groups[in.GetVBucket()]
	switch {
	case !d.fits(in):
		why = fmt.Sprintf("it is registered with %s, and node %s has %s", d.cut(), in.GetNodeAddress(), cutOf(in))
	case g != nil && g.differs(in, master):
		g.disputed = now
		why = fmt.Sprintf("vBucket %q is held by cluster %s (%s), and node %s is of %s",
			g.vBucket, g.cluster, g.example(), in.GetNodeAddress(), clusterOf(in))
	case now.Before(d.barred[in.GetClusterID()]):
		return kv.Errorf(kv.Precondition, "database %q was taken from cluster %s, which may not register again until %v have passed",
			d.name, in.GetClusterID(), t.times.timeout)
	case g != nil && g.cluster == "" && in.GetClusterID() != "" && g.anonymousBut(in.GetNodeAddress()) > 0:
		return kv.Errorf(kv.Precondition, "database %q: vBucket %q is served by masters that name no cluster (%s), and node %s is of %s; stop those masters",
			d.name, g.vBucket, g.example(), in.GetNodeAddress(), clusterOf(in))
	default:
		return nil
	}
	return kv.Errorf(kv.Precondition, "database %q: %s; "+howToRelease, d.name, why, d.name, t.times.ttl)
}

// differs reports whether a row is of another cluster than the one that holds the
// vBucket. A node that names no cluster may be its slave, but not its master.
func (g *group) differs(in *serverpb.RegionInfo, master bool) bool {
	if g.cluster == "" || in.GetClusterID() == g.cluster {
		return false
	}
	return in.GetClusterID() != "" || master
}

func clusterOf(in *serverpb.RegionInfo) string {
	if id := in.GetClusterID(); id != "" {
		return "cluster " + id
	}
	return "a cluster without an id"
}

// masterStatus reports whether a node says that it is a master.
func masterStatus(s serverpb.RegionStatus) bool {
	switch s {
	case serverpb.RegionStatus_LEADER, serverpb.RegionStatus_PRIMARY_FOLLOWER, serverpb.RegionStatus_SECONDARY_FOLLOWER:
		return true
	default:
		return false
	}
}

// fits reports whether a row is of the database's layout. If that is not known, the
// layout must have the vBuckets that have live rows.
func (d *database) fits(in *serverpb.RegionInfo) bool {
	theirs := layoutOf(in)
	switch {
	case d.layout.known() && theirs.known():
		return d.layout == theirs
	case d.layout.known():
		return d.layout.has(in.GetVBucket())
	case theirs.known():
		for name, g := range d.groups {
			if g.alive > 0 && !theirs.has(name) {
				return false
			}
		}
	}
	return true
}

// cut describes the layout of a database.
func (d *database) cut() string {
	if d.layout.known() {
		return d.layout.String()
	}
	var names []string
	for name := range d.groups {
		names = append(names, fmt.Sprintf("%q", name))
	}
	slices.Sort(names)
	const most = 4
	if len(names) > most {
		names = append(names[:most], "...")
	}
	return "vBuckets " + strings.Join(names, ", ")
}

func cutOf(in *serverpb.RegionInfo) string {
	if l := layoutOf(in); l.known() {
		return l.String()
	}
	return fmt.Sprintf("vBucket %q", in.GetVBucket())
}

// example names a node of the vBucket, one that leads if there is one.
func (g *group) example() string {
	switch {
	case g.leader != nil && g.leader.claims():
		return "leader " + g.leader.key.node
	case len(g.rows) > 0:
		return "node " + g.rows[0].key.node
	default:
		return "no node is left"
	}
}

// anonymousBut counts the live masters that name no cluster, other than a node.
func (g *group) anonymousBut(node string) int {
	n := g.anonymous
	if i, found := slices.BinarySearchFunc(g.rows, node, byNode); found && g.rows[i].masters() && g.rows[i].info.GetClusterID() == "" {
		n--
	}
	return n
}

// claim makes the cluster of a row, which stranger has accepted, the holder of its
// vBucket and its database, unless they have one.
func (t *table) claim(in *serverpb.RegionInfo, now time.Time) {
	g := t.groupAt(keyOf(in).place)
	d := g.database
	if l := layoutOf(in); l.known() && !d.layout.known() {
		d.layout, d.held = l, now
		t.stage(layoutChange(d.name, l))
	}
	if id := in.GetClusterID(); id != "" && g.cluster == "" {
		g.hold(id)
		g.unproven, d.held = true, now
	}
}

// unclaim takes a vBucket back from a cluster of which no row could be stored, and its database
// from a layout that is neither stored nor a row's.
func (t *table) unclaim(g *group) {
	if g.unproven && !slices.ContainsFunc(g.rows, func(r *row) bool { return r.info.GetClusterID() == g.cluster }) {
		if g.leading.cluster == g.cluster {
			t.forgetLeading(g)
		}
		g.hold("")
		t.releaseGroup(g)
	}
	if d := g.database; d.layout != d.recorded && !d.names(d.layout) {
		d.layout = layout{}
		t.releaseDatabase(d)
	}
}

// names reports whether a row of the database states a layout.
func (d *database) names(l layout) bool {
	for _, g := range d.groups {
		if slices.ContainsFunc(g.rows, func(r *row) bool { return layoutOf(r.info) == l }) {
			return true
		}
	}
	return false
}

// hold makes a cluster the holder of a vBucket; "" is none.
func (g *group) hold(cluster string) {
	if g.cluster != "" {
		g.database.claims--
	}
	if cluster != "" {
		g.database.claims++
	}
	g.cluster, g.unproven, g.disputed = cluster, false, time.Time{}
}

// layoutKey is where the layout of a database is stored: as the row of no vBucket.
func layoutKey(database string) rowKey { return rowKey{place: place{database: database}} }

func layoutChange(database string, l layout) change {
	return change{kind: cutUp, key: layoutKey(database), info: &serverpb.RegionInfo{Database: database, VBuckets: l.count, NodeName: l.only}}
}

// storedLayout reads what layoutChange stores.
func storedLayout(info *serverpb.RegionInfo) layout {
	return layout{count: info.GetVBuckets(), only: info.GetNodeName()}
}

// applyLayout records which layout is stored.
func (t *table) applyLayout(c *change) {
	d := t.databaseAt(c.key.database)
	d.recorded = layout{}
	if c.kind == cutUp {
		d.recorded = storedLayout(c.info)
	}
	t.stageLayout(d)
	t.releaseDatabase(d)
}

// stageLayout stores the layout of a database unless it is stored.
func (t *table) stageLayout(d *database) {
	switch {
	case d.layout == d.recorded:
	case d.layout.known():
		t.stage(layoutChange(d.name, d.layout))
	default: // the database was released while the layout was stored
		t.stage(change{kind: uncut, key: layoutKey(d.name)})
	}
}

// vacate leaves a database without a holder.
func (t *table) vacate(d *database) {
	d.layout = layout{}
	if d.recorded.known() {
		t.stage(change{kind: uncut, key: layoutKey(d.name)})
	}
	for _, g := range d.groups {
		if g.cluster != "" {
			g.hold("")
			t.forgetLeading(g)
		}
		t.releaseGroup(g)
	}
	t.releaseDatabase(d)
}

// releaseDatabase deletes a database of which nothing is left but its record.
func (t *table) releaseDatabase(d *database) {
	if len(d.groups) == 0 && !d.layout.known() && !d.recorded.known() && len(d.barred) == 0 {
		delete(t.databases, d.name)
	}
}

// expel takes a database from the cluster that holds it, and deletes all of its rows. For
// a while that cluster may not register again, so that another one can.
func (t *table) expel(name string, now time.Time) (wait *batch, from string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.databases[name]
	if d == nil || !d.isHeld() {
		return nil, "", kv.Errorf(kv.NotFound, "no cluster holds database %q", name)
	}
	if g := d.holder(); g != nil {
		from = g.cluster
	}
	d.barred = make(map[string]time.Time)
	for _, g := range d.groups {
		if g.cluster != "" {
			d.barred[g.cluster] = now.Add(t.times.timeout)
		}
		for _, r := range slices.Clone(g.rows) {
			wait = t.purgeNow(r, now)
		}
	}
	t.vacate(d)
	if t.open != nil {
		wait = t.open
	}
	return wait, from, nil
}

// purgeNow removes a row whatever its node says.
func (t *table) purgeNow(r *row, now time.Time) *batch {
	if !r.silent() {
		t.hush(r, now)
	}
	wait := t.stage(change{kind: purged, key: r.key, info: r.info})
	t.remove(r)
	return wait
}

// settleClaims finds the holder of a database of which only rows are known: the cluster
// with the most masters. Rows of other clusters, which an earlier release accepted, are
// removed.
func (t *table) settleClaims(d *database, now time.Time) {
	if !d.layout.known() {
		if l, found := mostFrequent(d.all(), func(r *row) layout { return layoutOf(r.info) }); found {
			d.layout = l
			t.stage(layoutChange(d.name, l))
		}
	}
	for _, g := range d.groups {
		if g.cluster == "" {
			cluster, _ := mostFrequent(g.rows, func(r *row) string { return r.info.GetClusterID() })
			g.hold(cluster)
		}
	}
	if d.isHeld() {
		d.held = now
	}
	for _, r := range d.all() {
		if t.stranger(r.info, masterStatus(r.reported), now) != nil {
			t.purgeNow(r, now)
		}
	}
}

// all returns the rows of a database, ordered by vBucket and node address.
func (d *database) all() []*row {
	var out []*row
	for _, g := range d.groups {
		out = append(out, g.rows...)
	}
	slices.SortFunc(out, func(a, b *row) int { return a.key.compare(b.key) })
	return out
}

// mostFrequent returns the value that most rows have, leaving out the zero value. Masters
// alone decide if there are any. Of equally frequent values the first counts.
func mostFrequent[T comparable](rows []*row, of func(*row) T) (best T, found bool) {
	var none T
	counts := make(map[T]int)
	for _, r := range rows {
		weight := 1
		if r.masters() {
			weight += len(rows)
		}
		counts[of(r)] += weight
	}
	for _, r := range rows {
		if v := of(r); v != none && cmp.Compare(counts[v], counts[best]) > 0 || v != none && !found {
			best, found = v, true
		}
	}
	return best, found
}
