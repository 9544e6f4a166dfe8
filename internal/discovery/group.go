package discovery

import (
	"container/heap"
	"slices"
	"time"
)

// group is the rows of one vBucket. What is derived from them is updated row by row, so
// that the cost of a heartbeat or a timeout does not grow with their number.
type group struct {
	place
	database *database
	rows     []*row // by node address
	// cluster is the id of the cluster that holds the vBucket; empty while none does.
	cluster string
	// unproven reports whether no row of that cluster has been stored yet.
	unproven bool
	// alive counts the rows that are not silent.
	alive int
	// anonymous counts the masters without a cluster id.
	anonymous int
	// leading is the history whose nodes may lead, recorded the leading history that is
	// stored.
	leading, recorded origin
	// awaited reports whether the first claim is being stored.
	awaited bool
	// leader is the row that is shown as LEADER, or was last; nil for none.
	leader *row
	// claimed is when it was last known that a node of the leading history led.
	claimed time.Time
	// origins are the rows by the origin of their changes.
	origins map[origin]*branch
	// claimants counts the rows that claim to lead.
	claimants int
	// contested reports whether a row claims to lead and is not the leader, so that
	// heartbeats count too.
	contested bool
	// disputed is when a node of another cluster was last rejected.
	disputed time.Time
	// followers are the rows that follow, by data centre, and primaries those of
	// them that are shown as PRIMARY_FOLLOWER.
	followers map[string]*rowHeap
	primaries map[string]*row
}

// branch is the rows of one origin.
type branch struct {
	rows int
	// heard is when a node of it other than a slave was last heard.
	heard time.Time
	// claims are the rows that claim to lead, the one with the highest term first.
	claims rowHeap
	// from counts the masters by the origin of their changes before this one.
	from map[origin]int
}

func newGroup(d *database, p place) *group {
	return &group{
		place:     p,
		database:  d,
		origins:   make(map[origin]*branch),
		followers: make(map[string]*rowHeap),
		primaries: make(map[string]*row),
	}
}

func (g *group) branch(o origin) *branch {
	b := g.origins[o]
	if b == nil {
		b = &branch{claims: rowHeap{less: higherTerm, place: func(r *row) *int { return &r.claim }}, from: make(map[origin]int)}
		g.origins[o] = b
	}
	return b
}

func (g *group) followersIn(dc string) *rowHeap {
	h := g.followers[dc]
	if h == nil {
		h = &rowHeap{less: lesserAddress, place: func(r *row) *int { return &r.follow }}
		g.followers[dc] = h
	}
	return h
}

// add adds a new row.
func (g *group) add(r *row) {
	i, _ := slices.BinarySearchFunc(g.rows, r.key.node, byNode)
	g.rows = slices.Insert(g.rows, i, r)
	g.enlist(r)
}

// remove removes a row.
func (g *group) remove(r *row) {
	if i, found := slices.BinarySearchFunc(g.rows, r.key.node, byNode); found {
		g.rows = slices.Delete(g.rows, i, i+1)
	}
	g.strike(r)
	g.tidy(originOf(r.info), r.info.GetDcID())
	if g.leader == r {
		g.leader = nil
	}
	if dc := r.info.GetDcID(); g.primaries[dc] == r {
		delete(g.primaries, dc)
	}
}

// update changes a row, and what is derived from all rows with it.
func (g *group) update(r *row, change func()) {
	from, dc := originOf(r.info), r.info.GetDcID()
	g.strike(r)
	change()
	g.enlist(r)
	g.tidy(from, dc)
}

// enlist counts a row as what it is now.
func (g *group) enlist(r *row) {
	b := g.branch(originOf(r.info))
	b.rows++
	if !r.silent() {
		g.alive++
	}
	if r.claims() {
		g.claimants++
		heap.Push(&b.claims, r)
	}
	if r.follows() {
		heap.Push(g.followersIn(r.info.GetDcID()), r)
	}
	if r.masters() {
		if r.before.known {
			b.from[r.before]++
		}
		if r.info.GetClusterID() == "" {
			g.anonymous++
		}
	}
}

// strike undoes enlist.
func (g *group) strike(r *row) {
	b := g.branch(originOf(r.info))
	b.rows--
	if !r.silent() {
		g.alive--
	}
	if r.masters() {
		if r.info.GetClusterID() == "" {
			g.anonymous--
		}
		if r.before.known {
			if b.from[r.before]--; b.from[r.before] == 0 {
				delete(b.from, r.before)
			}
		}
	}
	if r.follow >= 0 {
		heap.Remove(g.followersIn(r.info.GetDcID()), r.follow)
	}
	if r.claim >= 0 {
		g.claimants--
		heap.Remove(&b.claims, r.claim)
	}
}

// tidy deletes an origin and a data centre without rows.
func (g *group) tidy(o origin, dc string) {
	if b := g.origins[o]; b != nil && b.rows == 0 {
		delete(g.origins, o)
	}
	if h := g.followers[dc]; h != nil && h.Len() == 0 {
		delete(g.followers, dc)
	}
}

// hear records a heartbeat of a row.
func (g *group) hear(r *row, now time.Time) {
	from := originOf(r.info)
	if !r.slave() {
		g.branch(from).heard = now
	}
	if from == g.leading && r.claims() {
		g.claimed = now
	}
	if from.cluster != "" || r.info.GetVBuckets() > 0 {
		g.database.held = now
	}
}

// rowHeap is a heap of rows, each of which knows its place in it.
type rowHeap struct {
	rows  []*row
	less  func(a, b *row) bool
	place func(*row) *int
}

func higherTerm(a, b *row) bool {
	if a.info.GetTerm() != b.info.GetTerm() {
		return a.info.GetTerm() > b.info.GetTerm()
	}
	return a.key.node < b.key.node
}

func lesserAddress(a, b *row) bool { return a.key.node < b.key.node }

// top returns the first row; nil for none.
func (h *rowHeap) top() *row {
	if h == nil || len(h.rows) == 0 {
		return nil
	}
	return h.rows[0]
}

// Len implements heap.Interface.
func (h *rowHeap) Len() int { return len(h.rows) }

// Less implements heap.Interface.
func (h *rowHeap) Less(i, j int) bool { return h.less(h.rows[i], h.rows[j]) }

// Swap implements heap.Interface.
func (h *rowHeap) Swap(i, j int) {
	h.rows[i], h.rows[j] = h.rows[j], h.rows[i]
	*h.place(h.rows[i]), *h.place(h.rows[j]) = i, j
}

// Push implements heap.Interface.
func (h *rowHeap) Push(x any) {
	r := x.(*row)
	*h.place(r) = len(h.rows)
	h.rows = append(h.rows, r)
}

// Pop implements heap.Interface.
func (h *rowHeap) Pop() any {
	last := len(h.rows) - 1
	r := h.rows[last]
	h.rows[last] = nil
	h.rows = h.rows[:last]
	*h.place(r) = -1
	return r
}
