package discovery

import (
	"context"
	"runtime"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

const (
	// The registry looks for rows that have timed out this many times within a
	// timeout, and at least once a second.
	looksPerTimeout = 10
	maxLookInterval = time.Second
	// A longer time between two looks is a pause of this process. With a heartbeat each
	// second, no row is late after a shorter one (row.late).
	maxLookGap = maxLookInterval * 3 / 2
	// maxPurge bounds the rows that one look purges, and those that it stores again.
	maxPurge = 4 * maxProposalRows
	// stepRows and stepTime bound how long a look holds the lock: heartbeats and look-ups
	// come in between, however many rows time out together.
	stepRows = 256
	stepTime = 2 * time.Millisecond
)

func (t times) lookInterval() time.Duration {
	return max(min(t.timeout/looksPerTimeout, maxLookInterval), time.Millisecond)
}

// watchExpiry times rows out until ctx ends.
func (t *table) watchExpiry(ctx context.Context) {
	tick := time.NewTicker(t.times.lookInterval())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.expire(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// expire hides the rows whose heartbeats have timed out, purges those that have been
// silent for too long, and releases the databases whose holders are no longer heard.
func (t *table) expire(now time.Time) {
	t.beginLook(now)
	// The oldest age comes first, so that the queues stay in order.
	for a := threeQuarters; ; a-- {
		for t.ageSome(a, now) {
			runtime.Gosched()
		}
		if a == live {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.storeAges()
	t.storeOwed()
	t.purge(now)
	for _, d := range t.databases {
		t.lookAt(d, now)
	}
}

// beginLook finds out whether this process itself was stopped: if so, heartbeats that
// arrived in that time have not been read yet, and rows get that time back.
func (t *table) beginLook(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gap := now.Sub(t.looked)
	if !t.looked.IsZero() && gap > t.times.timeout/4 {
		for _, q := range t.queues[:silent] {
			for e := q.Front(); e != nil; e = e.Next() {
				r := e.Value.(*row)
				r.heard = earlier(r.heard.Add(gap), now)
			}
		}
		for _, d := range t.databases {
			d.held = earlier(d.held.Add(gap), now)
		}
	}
	t.woken = t.awakeSince(now)
	t.looked = now
}

// awakeSince returns since when this process has not been stopped, so that it has read
// heartbeats as they came; the zero time if it never was.
func (t *table) awakeSince(now time.Time) time.Time {
	if !t.looked.IsZero() && now.Sub(t.looked) > maxLookGap {
		return now
	}
	return t.woken
}

// ageSome moves rows of an age that have been silent for longer to a later age. more
// reports whether there may be more of them.
func (t *table) ageSome(a age, now time.Time) (more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	began := time.Now()
	for n := 1; ; n++ {
		e := t.queues[a].Front()
		if e == nil {
			return false
		}
		r := e.Value.(*row)
		to := t.times.ageAfter(now.Sub(r.heard))
		if to <= a {
			return false
		}
		t.grow(r, to, now)
		if n == stepRows || time.Since(began) > stepTime {
			return true
		}
	}
}

// ageAfter returns the age of a row that has been silent for a time.
func (t times) ageAfter(silence time.Duration) age {
	a := live
	for a < silent && silence >= t.limit(a) {
		a++
	}
	return a
}

// grow moves a row to a later age.
func (t *table) grow(r *row, to age, now time.Time) {
	if to != silent {
		t.enter(r, to)
		t.stageAge(r)
		return
	}
	t.hush(r, now)
	t.stageAge(r)
}

// hush hides a row.
func (t *table) hush(r *row, now time.Time) {
	r.group.update(r, func() { t.enter(r, silent) })
	t.settle(r.group, now, r.info.GetDcID())
	t.show(r, false)
}

// stageAge stores the age of a row, so that the next owner of the registry knows how long
// it has been silent, and does not take a dead node for alive.
func (t *table) stageAge(r *row) {
	switch {
	case r.reported == serverpb.RegionStatus_INACTIVE: // is not shown anyway
	case !r.silent():
		t.stage(change{kind: aged, key: r.key, info: withStatus(r.info, r.reported), age: r.age})
	default:
		t.stage(change{kind: lapsed, key: r.key, info: r.info})
	}
}

// storeAges stores the ages that could not be stored before.
func (t *table) storeAges() {
	n := 0
	for r := range t.unstored {
		delete(t.unstored, r)
		t.stageAge(r)
		if n++; n == maxPurge {
			return
		}
	}
}

// storeOwed stores what else could not be stored before, unless it is out of date by now.
func (t *table) storeOwed() {
	for key, c := range t.owed {
		delete(t.owed, key)
		var g *group
		if d := t.databases[key.database]; d != nil {
			g = d.groups[key.vBucket]
		}
		switch {
		case key != leadingKey(key.place):
			if t.rows[key] == nil {
				t.stage(c)
			}
		case g == nil || !g.leading.known && g.recorded.known:
			t.stage(change{kind: forgotten, key: key})
		case g.leading.known:
			t.stageLeading(g)
		}
	}
}

// purge removes the rows that have been silent for too long.
func (t *table) purge(now time.Time) {
	for range maxPurge {
		e := t.queues[silent].Front()
		if e == nil || now.Sub(e.Value.(*row).heard) < t.times.limit(silent) {
			return
		}
		r := e.Value.(*row)
		t.dequeue(r)
		t.stage(change{kind: purged, key: r.key, info: r.info})
	}
}

// lookAt releases a database if its holder has been silent for as long as rows are kept,
// forgets clusters that are no longer barred from it, and stores its layout if that failed.
func (t *table) lookAt(d *database, now time.Time) {
	for cluster, until := range d.barred {
		if !now.Before(until) {
			delete(d.barred, cluster)
		}
	}
	if d.unstored {
		d.unstored = false
		t.stageLayout(d)
	}
	if d.isHeld() && now.Sub(d.held) >= t.times.ttl {
		t.vacate(d)
	} else {
		t.releaseDatabase(d)
	}
}
