package discovery

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// row is what one node has of one vBucket.
type row struct {
	key   rowKey
	group *group
	// info is the row as others see it, with the status that was derived, which is
	// INACTIVE where they do not see it. Messages are shared with who reads them:
	// one that is here does not change any more.
	info *serverpb.RegionInfo
	// reported is the status that the node gives itself, as it is stored.
	reported serverpb.RegionStatus
	// heard is when the last heartbeat came, and stamp the time that it carried,
	// in epoch seconds.
	heard time.Time
	stamp uint64
	// before is where the row's changes came from before they came from where they
	// do now, as far as this owner of the registry saw it.
	before origin
	// silent tells that the heartbeat timed out.
	silent bool
	// queued is the row's place among those that will time out (table.live) or be
	// purged (table.silent); nil while it is being purged.
	queued *list.Element
}

func (r *row) visible() bool { return r.info.GetStatus() != serverpb.RegionStatus_INACTIVE }

// group is the rows of one vBucket, by node address.
type group struct {
	place
	rows []*row
	// leading is the history whose nodes may lead, recorded the one of which that is
	// stored.
	leading, recorded origin
	// awaited tells that the first claim is being stored.
	awaited bool
	// leader is the row that is shown as LEADER, or was last; nil for none.
	leader *row
	// claimed is when it was last known that a node of the leading history led.
	claimed time.Time
	// since is when the vBucket was claimed first; zero where the store knew that.
	since time.Time
	// primaries are the rows that are shown as PRIMARY_FOLLOWER, by data centre.
	primaries map[string]*row
	// contested tells that a row claims to lead and is not the leader, so that
	// heartbeats count too.
	contested bool
}

// times are how long the registry believes a row.
type times struct {
	// timeout is for how long after a heartbeat a row is shown, ttl for how long
	// it is kept.
	timeout, ttl time.Duration
}

// table is all rows, as the owner of the log knows them.
type table struct {
	times times

	mu   sync.Mutex
	rows map[rowKey]*row
	// databases finds groups by database and vBucket.
	databases map[string]map[string]*group
	// live and silent are the rows in the order of their last heartbeats, the
	// oldest first.
	live, silent *list.List
	watchers     map[*watcher]struct{}
	// open takes the changes that are to be stored next; nil for none. kick tells
	// the writer of it.
	open *batch
	kick chan struct{}
	// ended is why nothing is stored any more; nil while it is.
	ended error
	// looked is when expire last ran.
	looked time.Time
}

func newTable(t times) *table {
	return &table{
		times:     t,
		rows:      make(map[rowKey]*row),
		databases: make(map[string]map[string]*group),
		live:      list.New(),
		silent:    list.New(),
		watchers:  make(map[*watcher]struct{}),
		kick:      make(chan struct{}, 1),
	}
}

// load takes a stored row, as heard of now: its node gets the time to be heard. info
// belongs to the table from here on.
func (t *table) load(info *serverpb.RegionInfo, now time.Time) {
	key := keyOf(info)
	if key == leadingKey(key.place) {
		g := t.groupAt(key.place)
		g.leading = originOf(info)
		g.recorded = g.leading
		return
	}
	r := t.insert(key, now)
	r.reported = reportedBy(info)
	r.info = info
	r.info.Status = serverpb.RegionStatus_INACTIVE // nobody has seen it yet
	if r.reported == serverpb.RegionStatus_INACTIVE {
		t.silence(r)
	}
}

// deriveAll settles the statuses of all rows, once they are loaded.
func (t *table) deriveAll(now time.Time) {
	for _, groups := range t.databases {
		for _, g := range groups {
			t.derive(g, nil, now)
			t.release(g)
		}
	}
}

// groupAt returns the rows of a vBucket, and makes the place for them.
func (t *table) groupAt(p place) *group {
	groups := t.databases[p.database]
	if groups == nil {
		groups = make(map[string]*group)
		t.databases[p.database] = groups
	}
	g := groups[p.vBucket]
	if g == nil {
		g = &group{place: p}
		groups[p.vBucket] = g
	}
	return g
}

// insert adds a row that nobody sees yet.
func (t *table) insert(key rowKey, now time.Time) *row {
	g := t.groupAt(key.place)
	r := &row{key: key, group: g, heard: now}
	r.queued = t.live.PushBack(r)
	i, _ := slices.BinarySearchFunc(g.rows, key.node, byNode)
	g.rows = slices.Insert(g.rows, i, r)
	t.rows[key] = r
	return r
}

func byNode(r *row, node string) int { return strings.Compare(r.key.node, node) }

// remove forgets a silent row.
func (t *table) remove(r *row) {
	delete(t.rows, r.key)
	if r.queued != nil {
		t.silent.Remove(r.queued)
	}
	g := r.group
	if i, found := slices.BinarySearchFunc(g.rows, r.key.node, byNode); found {
		g.rows = slices.Delete(g.rows, i, i+1)
	}
	if g.leader == r {
		g.leader = nil
	}
	t.release(g)
}

// touch notes a heartbeat of a live row.
func (t *table) touch(r *row, now time.Time, stamp uint64) {
	r.heard, r.stamp = now, stamp
	t.live.MoveToBack(r.queued)
}

// silence moves a live row to those that are waited for no longer.
func (t *table) silence(r *row) {
	t.live.Remove(r.queued)
	r.silent, r.queued = true, t.silent.PushBack(r)
}

// revive makes a row live, whatever it was.
func (t *table) revive(r *row, now time.Time, stamp uint64) {
	if r.silent {
		if r.queued != nil {
			t.silent.Remove(r.queued)
		}
		r.silent, r.queued = false, t.live.PushBack(r)
	}
	t.touch(r, now, stamp)
}

// heartbeat takes what a node says of itself. Where it is news, it is handed to the
// writer, and seen once it is stored: the batch that is returned is the one to wait
// for. rows are valid; they are kept, and not changed.
func (t *table) heartbeat(now time.Time, stamp uint64, rows ...*serverpb.RegionInfo) *batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait *batch
	for _, in := range rows {
		key := keyOf(in)
		r := t.rows[key]
		switch {
		case r == nil || r.silent:
			t.stageFirst(in)
			wait = t.stage(change{key: key, info: in, stamp: stamp})
		case t.outdated(r, now, stamp):
		case reportedBy(in) != r.reported || !sameRow(in, r.info):
			// It lives, whether or not its news can be stored.
			t.touch(r, now, stamp)
			t.stageFirst(in)
			wait = t.stage(change{key: key, info: in, stamp: stamp})
		default:
			t.refresh(r, in, now, stamp)
		}
	}
	return wait
}

const (
	// A heartbeat whose time is earlier than the last one's by more than
	// reordered seconds was held up on its way, unless that one came more than
	// reorderWindow ago: then it is the node's clock that went back.
	reordered     = 2
	reorderWindow = 10 * time.Second
)

// outdated tells whether a heartbeat was sent long before the last one that came.
func (t *table) outdated(r *row, now time.Time, stamp uint64) bool {
	return stamp != 0 && stamp+reordered < r.stamp && now.Sub(r.heard) < min(reorderWindow, t.times.timeout/2)
}

// refresh takes a heartbeat that has no news but numbers.
func (t *table) refresh(r *row, in *serverpb.RegionInfo, now time.Time, stamp uint64) {
	t.touch(r, now, stamp)
	moreSlaves := in.GetSlaves() != r.info.GetSlaves()
	if moreSlaves || in.GetChangeNumber() != r.info.GetChangeNumber() {
		if s := r.info.GetStatus(); in.GetStatus() != s {
			in = withStatus(in, s)
		}
		r.info = in
		if moreSlaves && r.visible() {
			t.publish(r)
		}
	}
	if r.group.contested && r.reported == serverpb.RegionStatus_LEADER {
		t.derive(r.group, nil, now)
	}
}

// apply does to the table what has been stored.
func (t *table) apply(c *change, now time.Time) {
	r := t.rows[c.key]
	switch {
	case c.kind == lapsed:
		if r != nil && r.silent {
			r.reported = serverpb.RegionStatus_INACTIVE
		}
	case c.kind == leads || c.kind == forgotten:
		t.applyLeading(c, now)
	case c.kind == purged:
		if r != nil && r.silent {
			t.remove(r)
		}
	default:
		t.applyHeard(c, now)
	}
}

// applyHeard takes a row that its node sent.
func (t *table) applyHeard(c *change, now time.Time) {
	r := t.rows[c.key]
	if r == nil {
		r = t.insert(c.key, now)
		r.info = withStatus(c.info, serverpb.RegionStatus_INACTIVE)
	}
	if r.visible() && r.info.GetDcID() != c.info.GetDcID() {
		r.info = withStatus(r.info, serverpb.RegionStatus_INACTIVE)
		t.publish(r) // gone, for those who watch the former data centre
	}
	seen := r.info.GetStatus()
	r.group.leave(r, c.info, now)
	t.revive(r, now, c.stamp)
	r.reported = reportedBy(c.info)
	if r.info = c.info; r.info.GetStatus() != seen {
		r.info = withStatus(c.info, seen)
	}
	t.derive(r.group, r, now)
}
