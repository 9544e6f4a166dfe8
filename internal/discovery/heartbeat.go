package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// heartbeat applies what a node reports. What is new goes to the writer, and is shown once
// the batch that is returned is stored. Rejected rows are left out, and the error is that
// of the first. rows must be valid; they are kept and not changed.
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
			// The rows of a node are of one cluster: if one is rejected, no other one
			// may claim a vBucket.
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

// The reasons by which rejected rows are counted.
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

// news passes a row to the writer that is new or has changed. r is the known row; nil for
// none.
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
		t.dequeue(r) // it must not be purged while it is being stored
	default:
		// It is alive, whether or not the change can be stored.
		t.touch(r, now, stamp)
	}
	t.stageFirst(in)
	return t.stage(change{key: keyOf(in), info: in, stamp: stamp})
}

const (
	// A heartbeat whose time is earlier than the last one's by more than reordered
	// seconds was delayed, unless the last one came more than reorderWindow ago: then the
	// node's clock was set back.
	reordered     = 2
	reorderWindow = 10 * time.Second
)

// outdated reports whether a heartbeat was sent long before the last one that came.
func (t *table) outdated(r *row, now time.Time, stamp uint64) bool {
	return stamp != 0 && stamp+reordered < r.stamp && now.Sub(r.heard) < min(reorderWindow, t.times.timeout/2)
}

// refresh applies a heartbeat in which only numbers have changed.
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

// apply applies a change to the table once it is stored.
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

// applyHeard applies a row that its node sent.
func (t *table) applyHeard(c *change, now time.Time) {
	r := t.rows[c.key]
	if r == nil {
		r = t.insert(c.info, now)
	}
	barred := now.Before(r.group.database.barred[c.info.GetClusterID()])
	if !barred {
		t.claim(c.info, now)
	}
	if barred || r.group.cluster != c.info.GetClusterID() && c.info.GetClusterID() != "" {
		t.purgeNow(r, now) // the database was released, or another cluster has got the vBucket, while the row was stored
		return
	}
	g, dc := r.group, r.info.GetDcID()
	if c.info.GetClusterID() != "" {
		g.unproven = false
	}
	if r.visible() && dc != c.info.GetDcID() {
		r.info = withStatus(r.info, serverpb.RegionStatus_INACTIVE)
		t.publish(r) // gone, for watchers of the former data centre
	}
	seen := r.info.GetStatus()
	g.leave(r, c.info, now)
	g.update(r, func() {
		t.revive(r, now, c.stamp)
		r.fresh, r.reported, r.info = false, reportedBy(c.info), withStatus(c.info, seen)
	})
	t.unstage(r.key)
	t.weigh(r)
	g.hear(r, now)
	t.settle(g, now, dc, r.info.GetDcID())
	t.show(r, true)
}
