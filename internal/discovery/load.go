package discovery

import (
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// load inserts a stored row as if its last heartbeat had come as late as it may have: its
// node has the time left that it had under the former owner. info belongs to the table
// from now on.
func (t *table) load(info *serverpb.RegionInfo, now time.Time) {
	key := keyOf(info)
	switch key {
	case layoutKey(key.database):
		d := t.databaseAt(key.database)
		d.layout = storedLayout(info)
		d.recorded = d.layout
		return
	case leadingKey(key.place):
		g := t.groupAt(key.place)
		g.leading, g.claimed = originOf(info), now
		g.recorded = g.leading
		g.hold(g.leading.cluster)
		return
	}
	reported := reportedBy(info)
	info.Status = serverpb.RegionStatus_INACTIVE // this owner has not seen it yet
	a, silence := t.times.silence(info)
	info.SilentQuarters = 0
	r := t.insert(info, now)
	r.fresh = false
	r.group.update(r, func() {
		if r.reported = reported; reported == serverpb.RegionStatus_INACTIVE {
			t.enter(r, silent)
			return
		}
		t.enter(r, a)
		r.heard = now.Add(-silence)
	})
	if !r.slave() {
		r.group.branch(originOf(r.info)).heard = now
	}
}

// loaded derives holders and statuses once all rows are loaded.
func (t *table) loaded(now time.Time) {
	t.looked = now
	for _, d := range t.databases {
		t.settleClaims(d, now)
		for _, g := range d.groups {
			dcs := make(map[string]bool)
			for _, r := range g.rows {
				dcs[r.info.GetDcID()] = true
			}
			t.settle(g, now)
			for dc := range dcs {
				g.choosePrimary(dc)
			}
			for _, r := range g.rows {
				t.show(r, false)
			}
			t.releaseGroup(g)
		}
		t.releaseDatabase(d)
	}
}
