package discovery

import (
	"context"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

const (
	// The registry looks for rows that have timed out this many times within a
	// time-out, and at least each second.
	looksPerTimeout = 10
	maxLookInterval = time.Second
	// maxPurge bounds what is purged in one look.
	maxPurge = 4 * maxProposalRows
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

// expire hides the rows whose heartbeats have timed out, and purges those that have
// been silent for too long.
func (t *table) expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.looked.IsZero() && now.Sub(t.looked) > t.times.timeout/2 {
		// It was this process that stood still: the heartbeats are yet to be read.
		for e := t.live.Front(); e != nil; e = e.Next() {
			e.Value.(*row).heard = now
		}
	}
	t.looked = now
	for e := t.live.Front(); e != nil; e = t.live.Front() {
		r := e.Value.(*row)
		if now.Sub(r.heard) < t.times.timeout {
			break
		}
		t.silence(r)
		t.derive(r.group, nil, now)
		if r.reported != serverpb.RegionStatus_INACTIVE {
			t.stage(change{kind: lapsed, key: r.key, info: r.info})
		}
	}
	for n := 0; n < maxPurge; n++ {
		e := t.silent.Front()
		if e == nil || now.Sub(e.Value.(*row).heard) < t.times.ttl {
			return
		}
		r := t.silent.Remove(e).(*row)
		r.queued = nil
		t.stage(change{kind: purged, key: r.key, info: r.info})
	}
}
