package discovery

import (
	"errors"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestHeartbeatIsNotUndone has a heartbeat wait to be stored, while its row is due to
// be purged and a late one arrives.
func TestHeartbeatIsNotUndone(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: 2 * time.Minute}, Limits{}.orDefault())
	now := time.Now()
	row := region("db/0/a:1/dc1", leader, term(1))
	key := keyOf(row)
	tab.say(now, row)
	look := func() { tab.looked = now; tab.expire(now) }
	now = now.Add(time.Minute)
	look()
	if c := tab.open.changes[key]; c.kind != lapsed {
		t.Errorf("staged %+v of a row that timed out", c)
	}
	wait, _ := tab.heartbeat(now, 100, region("db/0/a:1/dc1", leader, term(2)))
	if wait == nil || wait != tab.open {
		t.Fatal("the heartbeat of a row that timed out is not stored")
	}
	tab.heartbeat(now, 90, row)
	now = now.Add(time.Hour)
	look()
	if c := tab.open.changes[key]; c.kind != heard || c.stamp != 100 || c.info.GetTerm() != 2 {
		t.Errorf("staged %+v", c)
	}
	tab.heartbeat(now, 0, row) // tells no time: the order of arrival counts
	b := tab.take()
	if c := b.changes[key]; c.kind != heard || c.info != row || len(b.changes) != 1 {
		t.Errorf("staged %+v", c)
	}
	c := b.changes[key]
	tab.apply(&c, now)
	if got := tab.query(filter{}); len(got) != 1 || tab.queues[silent].Len() != 0 || tab.queues[live].Len() != 1 {
		t.Errorf("rows %q", text(got))
	}
}

// TestAgeWhileAHeartbeatIsStored has a row age, or time out, while its heartbeat is being stored:
// that counts, and not what the row was before.
func TestAgeWhileAHeartbeatIsStored(t *testing.T) {
	for _, silence := range []time.Duration{20 * time.Second, time.Minute} {
		tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
		now := time.Now()
		row := region("db/0/a:1/dc1", leader, term(2))
		tab.say(now, region("db/0/a:1/dc1", secondary, term(1)))
		tab.heartbeat(now, 0, row)
		changes := tab.due()
		now = now.Add(silence)
		tab.looked = now // time passed for all
		tab.expire(now)
		var stored *serverpb.RegionInfo
		for ; len(changes) > 0; changes = changes[1:] {
			m, err := changes[0].mutation()
			if err == nil && changes[0].key == keyOf(row) {
				stored, err = decodeRow(m.Key, m.Value)
			}
			if err != nil {
				t.Fatal(err)
			}
			tab.apply(&changes[0], now)
			if len(changes) == 1 && tab.open != nil {
				changes = append(changes, tab.due()...)
			}
		}
		if stored.GetStatus() != leader || stored.GetTerm() != 2 || stored.GetSilentQuarters() != 0 {
			t.Errorf("after %v: stored %v", silence, stored)
		}
	}
}

// TestNothingIsStoredAfterTheReign fails what waits, and what comes later.
func TestNothingIsStoredAfterTheReign(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: 2 * time.Minute}, Limits{}.orDefault())
	before, _ := tab.heartbeat(time.Now(), 0, region("db/0/a:1/dc1", leader))
	tab.endWrites(errReignOver)
	after, _ := tab.heartbeat(time.Now(), 0, region("db/0/b:1/dc1", leader))
	for _, b := range []*batch{before, after} {
		select {
		case <-b.done:
			if !errors.Is(b.err, errReignOver) || kv.OutcomeOf(b.err) != kv.NotApplied {
				t.Errorf("ended with %v", b.err)
			}
		default:
			t.Error("still waits")
		}
	}
	if tab.rows[keyOf(region("db/0/b:1/dc1", leader))] != nil || len(tab.query(filter{})) != 0 {
		t.Error("rows were taken")
	}
}
