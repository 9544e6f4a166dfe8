package discovery

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/signal"
)

// row is what one node serves of one vBucket.
type row struct {
	key   rowKey
	group *group
	// info is the row as clients see it, with the derived status, which is INACTIVE if
	// the row is not shown. Messages are shared with readers and never changed.
	info *serverpb.RegionInfo
	// reported is the status that the node reports, as it is stored.
	reported serverpb.RegionStatus
	// heard is when the last heartbeat came, and stamp the time that it carried,
	// in epoch seconds.
	heard time.Time
	stamp uint64
	// pace is the approximate time between two heartbeats.
	pace time.Duration
	// before is the origin of the row's changes before the current one, if this owner of
	// the registry saw it.
	before origin
	// age is how long the row has been silent, and queued its place in the queue of that
	// age; nil while it is being purged, or while a heartbeat that ends its silence is
	// being stored.
	age    age
	queued *list.Element
	// fresh reports whether nothing of the row has been stored yet.
	fresh bool
	// weight is what the row counts for in the limits.
	weight int
	// claim and follow are the row's places in its group's heaps; -1 for none.
	claim, follow int
}

func (r *row) visible() bool { return r.info.GetStatus() != serverpb.RegionStatus_INACTIVE }

func (r *row) silent() bool { return r.age == silent }

// claims reports whether the node says that it leads.
func (r *row) claims() bool {
	return !r.silent() && r.reported == serverpb.RegionStatus_LEADER
}

func (r *row) follows() bool {
	return !r.silent() && r.reported == serverpb.RegionStatus_SECONDARY_FOLLOWER
}

// masters reports whether the node serves the log of a vBucket itself.
func (r *row) masters() bool { return r.claims() || r.follows() }

// late reports whether the node has missed a few of its own heartbeats.
func (r *row) late(now time.Time) bool { return now.Sub(r.heard) > r.patience() }

// patience is for how long a node may be silent without being late.
func (r *row) patience() time.Duration {
	const missed = 3
	return missed * max(r.pace, time.Second)
}

// age is how long a row has been silent.
type age uint8

const (
	live age = iota
	// One, two and three quarters of the heartbeat timeout have passed. That is stored,
	// so that the next owner of the registry does not start counting again.
	quarter
	half
	threeQuarters
	// silent rows are not shown, and purged in the end.
	silent
	ages
)

// times are how long the registry keeps showing and storing a silent row.
type times struct {
	// timeout is how long after a heartbeat a row is shown, ttl how long it is kept.
	timeout, ttl time.Duration
}

// limit returns after how long a silence rows of an age move to the next.
func (t times) limit(a age) time.Duration {
	switch a {
	case silent:
		return t.ttl
	case threeQuarters:
		return t.timeout
	default:
		return t.timeout / 4 * time.Duration(a+1)
	}
}

// silence returns the age of a stored row, and how long it had been silent at least.
func (t times) silence(info *serverpb.RegionInfo) (age, time.Duration) {
	a := age(min(info.GetSilentQuarters(), uint32(threeQuarters)))
	return a, t.timeout / 4 * time.Duration(a)
}

// table is all rows as the owner of the log knows them.
type table struct {
	times  times
	limits Limits

	mu        sync.Mutex
	rows      map[rowKey]*row
	databases map[string]*database
	// records are the records of databases, also of those that have no rows.
	records map[string]*peerpb.Record
	// weight is the sum of all rows' weights.
	weight int
	// queues are the rows of each age in the order of their last heartbeats, the
	// oldest first.
	queues [ages]*list.List
	// watchers are by the database that they follow; "" is all.
	watchers map[string]map[*watcher]struct{}
	// pending counts the changes that watchers have not fetched.
	pending int
	// open collects the changes that are stored next; nil for none. opened is raised when
	// there is one.
	open   *batch
	opened signal.Signal
	// ended is why nothing can be stored; nil while it can.
	ended error
	// unstored are rows whose age could not be stored, which is tried again. So are the changes in
	// owed, which no heartbeat brings again: removals of rows that are gone, and of which history
	// leads.
	unstored map[*row]struct{}
	owed     map[rowKey]change
	// looked is when expire last ran, and woken when it last did after a longer pause than usual:
	// this process, or its machine, had been stopped.
	looked, woken time.Time
	// refusals counts the rejected rows, by reason.
	refusals map[string]uint64
}

func newTable(t times, limits Limits) *table {
	out := &table{
		times:     t,
		limits:    limits,
		rows:      make(map[rowKey]*row),
		databases: make(map[string]*database),
		records:   make(map[string]*peerpb.Record),
		watchers:  make(map[string]map[*watcher]struct{}),
		unstored:  make(map[*row]struct{}),
		owed:      make(map[rowKey]change),
		refusals:  make(map[string]uint64),
	}
	for i := range out.queues {
		out.queues[i] = list.New()
	}
	return out
}

// groupAt returns the rows of a vBucket, which may be a new one.
func (t *table) groupAt(p place) *group {
	d := t.databaseAt(p.database)
	g := d.groups[p.vBucket]
	if g == nil {
		g = newGroup(d, p)
		d.groups[p.vBucket] = g
	}
	return g
}

// insert adds a row that is not shown: nothing of it is stored yet.
func (t *table) insert(info *serverpb.RegionInfo, now time.Time) *row {
	key := keyOf(info)
	r := &row{key: key, group: t.groupAt(key.place), info: withStatus(info, serverpb.RegionStatus_INACTIVE),
		heard: now, age: silent, fresh: true, claim: -1, follow: -1}
	t.rows[key] = r
	r.group.add(r)
	t.weigh(r)
	return r
}

// weigh counts a row in the limits for what it is now.
func (t *table) weigh(r *row) {
	delta := weightOf(r.info) - r.weight
	r.weight += delta
	r.group.database.weight += delta
	t.weight += delta
}

// remove deletes a silent row.
func (t *table) remove(r *row) {
	delete(t.rows, r.key)
	delete(t.unstored, r)
	t.dequeue(r)
	t.weight -= r.weight
	r.group.database.weight -= r.weight
	r.group.remove(r)
	t.releaseGroup(r.group)
}

// touch records a heartbeat of a row that is not silent.
func (t *table) touch(r *row, now time.Time, stamp uint64) {
	t.renew(r, now, stamp)
	r.group.hear(r, now)
}

// renew makes a row that is not silent live.
func (t *table) renew(r *row, now time.Time, stamp uint64) {
	const memory = 8 // heartbeats
	r.pace += (now.Sub(r.heard) - r.pace) / memory
	r.heard, r.stamp = now, stamp
	if r.age == live {
		t.queues[live].MoveToBack(r.queued)
	} else {
		t.enter(r, live)
		t.stageAge(r)
	}
}

// dequeue stops a row from ageing.
func (t *table) dequeue(r *row) {
	if r.queued != nil {
		t.queues[r.age].Remove(r.queued)
		r.queued = nil
	}
}

// enter moves a row to the queue of an age.
func (t *table) enter(r *row, a age) {
	t.dequeue(r)
	r.age = a
	r.queued = t.queues[a].PushBack(r)
}

// revive makes a row live, whatever its age.
func (t *table) revive(r *row, now time.Time, stamp uint64) {
	if r.silent() {
		r.pace = 0
		t.enter(r, live)
		r.heard = now
	}
	t.renew(r, now, stamp)
}

// slave reports whether the node serves a copy.
func (r *row) slave() bool { return r.reported == serverpb.RegionStatus_ACTIVE_SLAVE }

func byNode(r *row, node string) int { return strings.Compare(r.key.node, node) }
