package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// heartbeat takes what a node says of itself. What is news is handed to the writer, and
// seen once it is stored: the batch that is returned is the one to wait for. Rows that
// are refused are left out, and the error says why the first of them was. rows are
// valid; they are kept, and not changed.
func (t *table) heartbeat(now time.Time, stamp uint64, rows ...*serverpb.RegionInfo) (wait *batch, refused error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	checked := false
	var stranger error
	for _, in := range rows {
		r := t.rows[keyOf(in)]
		switch {
		case r != nil && !r.silent() && t.outdated(r, now, stamp):
			continue
		case r != nil && !r.silent() && reportedBy(in) == r.reported && sameRow(in, r.info):
			t.refresh(r, in, now, stamp)
			continue
		}
		if !checked {
			// The rows of a node are of one cluster: if one is refused, no other
			// one may claim anything.
			stranger, checked = t.anyStranger(rows, now), true
		}
		err := stranger
		if err == nil && r == nil {
			err = t.room(in)
		}
		if err != nil {
			t.refusals[reasonOf(err)]++
			if refused == nil {
				refused = err
			}
			continue
		}
		wait = t.news(r, in, now, stamp)
	}
	return wait, refused
}

// The reasons by which refusals are counted.
const (
	refusedCluster = "cluster"
	refusedLimit   = "limit"
)

func reasonOf(err error) string {
	if kv.KindOf(err) == kv.Exhausted {
		return refusedLimit
	}
	return refusedCluster
}

func (t *table) anyStranger(rows []*serverpb.RegionInfo, now time.Time) error {
	for _, in := range rows {
		if err := t.stranger(in, masterStatus(in.GetStatus()), now); err != nil {
			return err
		}
	}
	return nil
}

// news hands a row to the writer that is new or says something new. r is what is known
// of it, nil for nothing.
func (t *table) news(r *row, in *serverpb.RegionInfo, now time.Time, stamp uint64) *batch {
	if t.ended == nil {
		t.claim(in, now)
		if r == nil {
			r = t.insert(in, now)
		}
	}
	switch {
	case r == nil:
	case r.silent():
		t.dequeue(r) // it is not to be purged meanwhile
	default:
		// It lives, whether or not its news can be stored.
		t.touch(r, now, stamp)
	}
	t.stageFirst(in)
	return t.stage(change{key: keyOf(in), info: in, stamp: stamp})
}

const (
	// A heartbeat whose time is earlier than the last one's by more than
	// reordered seconds was held up on its way, unless that one came more than
	// reorderWindow ago: then it is the node's clock that went back.
	reordered     = 2
	reorderWindow = 10 * time.Second
)

// outdated reports whether a heartbeat was sent long before the last one that came.
func (t *table) outdated(r *row, now time.Time, stamp uint64) bool {
	return stamp != 0 && stamp+reordered < r.stamp && now.Sub(r.heard) < min(reorderWindow, t.times.timeout/2)
}

// refresh takes a heartbeat that has no news but numbers.
func (t *table) refresh(r *row, in *serverpb.RegionInfo, now time.Time, stamp uint64) {
	t.touch(r, now, stamp)
	moreSlaves := in.GetSlaves() != r.info.GetSlaves()
	if moreSlaves || in.GetChangeNumber() != r.info.GetChangeNumber() {
		r.info = withStatus(in, r.info.GetStatus())
		if moreSlaves && r.visible() {
			t.publish(r)
		}
	}
	if r.group.contested && r.reported == serverpb.RegionStatus_LEADER {
		t.settle(r.group, now)
	}
}

// apply does to the table what has been stored.
func (t *table) apply(c *change, now time.Time) {
	r := t.rows[c.key]
	switch c.kind {
	case aged:
	case lapsed:
		if r != nil && r.silent() {
			r.reported = serverpb.RegionStatus_INACTIVE
		}
	case leads, forgotten:
		t.applyLeading(c, now)
	case cutUp, uncut:
		t.applyLayout(c)
	case purged:
		if r != nil && r.silent() && r.queued == nil && !r.fresh {
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
		r = t.insert(c.info, now)
	}
	if t.claim(c.info, now); r.group.cluster != c.info.GetClusterID() && c.info.GetClusterID() != "" {
		t.purgeNow(r, now) // the vBucket has changed hands while the row was stored
		return
	}
	g, dc := r.group, r.info.GetDcID()
	if r.visible() && dc != c.info.GetDcID() {
		r.info = withStatus(r.info, serverpb.RegionStatus_INACTIVE)
		t.publish(r) // gone, for those who watch the former data centre
	}
	seen := r.info.GetStatus()
	g.leave(r, c.info, now)
	g.update(r, func() {
		t.revive(r, now, c.stamp)
		r.fresh, r.reported, r.info = false, reportedBy(c.info), withStatus(c.info, seen)
	})
	t.weigh(r)
	g.hear(r, now)
	t.settle(g, now, dc, r.info.GetDcID())
	t.show(r, true)
}
