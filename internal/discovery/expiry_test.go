package discovery

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// simulate runs a registry of one node in simulated time.
func simulate(t *testing.T, f func(t *testing.T, l *log, r *Registry)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.elect(1)
		r := newRegistry(t, l, 1, Options{HeartbeatTimeout: time.Minute, StatusTTL: 5 * time.Minute})
		f(t, l, r)
	})
}

// after lets time pass, and all that is due then.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRowIsShownWhileItsHeartbeatIsYoung(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		row := region("db/0/a:1/dc1", leader)
		r.send(t, row)
		for range 100 {
			after(time.Second)
			r.send(t, row)
		}
		if n := l.proposals.Load(); n != 1 {
			t.Errorf("100 equal heartbeats cost %d writes", n)
		}
		after(58 * time.Second)
		r.wantRows(t, "db/0/a:1/dc1 LEADER")
		after(3 * time.Second)
		r.wantRows(t)
		if got := l.stored(t); len(got) != 1 || got[0] != "db/0/a:1/dc1 INACTIVE" {
			t.Errorf("stored: %q", got)
		}
		r.send(t, row) // is back
		r.wantRows(t, "db/0/a:1/dc1 LEADER")
	})
}

func TestSilentRowIsPurged(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		r.send(t, region("db/0/a:1/dc1", leader), region("db/0/b:1/dc1", inactive))
		r.wantRows(t, "db/0/a:1/dc1 LEADER")
		after(4*time.Minute + 58*time.Second)
		if got := l.stored(t); len(got) != 2 {
			t.Errorf("stored: %q", got)
		}
		after(5 * time.Second)
		if got := l.keys(t); got != 0 {
			t.Errorf("%d keys are stored", got)
		}
		g := r.current.Load()
		if len(g.table.rows) != 0 || len(g.table.databases) != 0 || g.table.weight != 0 {
			t.Error("rows are left in memory")
		}
		// Both rows, one of them three times as it ages, lapsed, both purged, and then
		// what led.
		if n := l.proposals.Load(); n != 7 {
			t.Errorf("%d writes", n)
		}
	})
}

// TestPurgeIsRepeated purges what could not be purged at once.
func TestPurgeIsRepeated(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		r.send(t, region("db/0/a:1/dc1", leader))
		after(2 * time.Minute)
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		after(4 * time.Minute)
		if got := l.stored(t); len(got) != 1 {
			t.Errorf("stored: %q", got)
		}
		l.fail(nil)
		after(3 * time.Second)
		if got := l.stored(t); len(got) != 0 {
			t.Errorf("stored: %q", got)
		}
	})
}

// keep sends rows each second for as long as the time goes.
func (r *Registry) keep(t *testing.T, d time.Duration, rows ...*serverpb.RegionInfo) {
	t.Helper()
	for range d / time.Second {
		r.send(t, rows...)
		after(time.Second)
	}
}

// TestOwnerChange hands the registry to another node: no node that lives vanishes, and
// none that does not is shown again.
func TestOwnerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.elect(1)
		opts := Options{HeartbeatTimeout: time.Minute, StatusTTL: 5 * time.Minute}
		one, two := newRegistry(t, l, 1, opts), newRegistry(t, l, 2, opts)
		one.send(t, region("db/0/dead:1/dc1", leader, term(4)))
		after(30 * time.Second)
		rows := []*serverpb.RegionInfo{region("db/0/a:1/dc1", leader, term(5)), region("db/0/b:1/dc1", secondary), region("db/0/c:1/dc1", inactive)}
		one.keep(t, 40*time.Second, rows...) // dead:1 is gone
		live := []string{"db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 PRIMARY_FOLLOWER"}
		one.wantRows(t, live...)

		l.elect(0)
		after(50 * time.Second) // longer than the time-out, with what comes
		two.wantRows(t, live...)
		l.elect(2)
		after(20 * time.Second)
		two.wantRows(t, live...)
		two.keep(t, 50*time.Second, rows[:1]...)
		two.wantRows(t, "db/0/a:1/dc1 LEADER")
		if _, owner := one.Observe(); owner {
			t.Error("the former owner believes that it still is")
		}
		if o, owner := two.Observe(); !owner || o.Rows[leader] != 1 || o.Rows[inactive] != 3 || o.VBuckets != 1 {
			t.Errorf("%+v, owner %v", o, owner)
		}
	})
}

// TestSilentRowIsNotShownAnew changes the registry's owner again and again while a node
// is silent: it is not shown for much longer than if there were one owner.
func TestSilentRowIsNotShownAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.elect(1)
		r := newRegistry(t, l, 1, Options{HeartbeatTimeout: time.Minute, StatusTTL: 5 * time.Minute})
		dead, alive := region("db/0/dead:1/dc1", leader), region("db/0/alive:1/dc1", secondary)
		r.send(t, dead)
		began, last := time.Now(), time.Time{}
		for time.Since(began) < 5*time.Minute {
			r.keep(t, 20*time.Second, alive)
			if slices.Contains(shown(t, r), "dead:1") {
				last = time.Now()
			}
			l.elect(1) // another reign
			after(time.Second)
		}
		if d := last.Sub(began); d > 100*time.Second {
			t.Errorf("a dead node was shown for %v", d)
		}
		if !slices.Contains(shown(t, r), "alive:1") {
			t.Error("a live node is not shown")
		}
	})
}

func shown(t *testing.T, r *Registry) (out []string) {
	t.Helper()
	rows, err := r.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		out = append(out, row.GetNodeAddress())
	}
	return out
}

// TestTimeOutIsStoredLater has the store fail while a row times out: the next owner
// does not take its node for alive.
func TestTimeOutIsStoredLater(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		r.send(t, region("db/0/a:1/dc1", leader))
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		after(70 * time.Second)
		l.fail(nil)
		after(3 * time.Second)
		if got := l.stored(t); len(got) != 1 || got[0] != "db/0/a:1/dc1 INACTIVE" {
			t.Errorf("stored: %q", got)
		}
		l.elect(1)
		after(time.Second)
		r.wantRows(t)
	})
}

// TestSameOwnerAgain reads the rows again if another node owned the log in between.
func TestSameOwnerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.elect(1)
		one, two := newRegistry(t, l, 1, Options{}), newRegistry(t, l, 2, Options{})
		one.send(t, region("db/0/a:1/dc1", leader))
		l.elect(2)
		after(time.Second)
		two.send(t, region("db/0/b:1/dc1", secondary))
		l.elect(1)
		after(time.Second)
		one.wantRows(t, "db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 PRIMARY_FOLLOWER")
		l.elect(1) // in another term
		after(time.Second)
		one.wantRows(t, "db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 PRIMARY_FOLLOWER")
	})
}

// TestStall does not blame nodes for a registry that stood still.
func TestStall(t *testing.T) {
	now := time.Now()
	tab := newTable(times{timeout: time.Minute, ttl: 5 * time.Minute}, Limits{}.orDefault())
	tab.apply(&change{key: keyOf(region("db/0/a:1/dc1", leader)), info: region("db/0/a:1/dc1", leader)}, now)
	tab.expire(now)
	tab.expire(now.Add(10 * time.Minute))
	if got := text(tab.query(filter{})); len(got) != 1 {
		t.Errorf("rows %q of a registry that stood still", got)
	}
	for s := 10; s < 60; s += 10 {
		tab.expire(now.Add(10*time.Minute + time.Duration(s)*time.Second))
	}
	if got := text(tab.query(filter{})); len(got) != 1 {
		t.Errorf("rows %q", got)
	}
	tab.expire(now.Add(11*time.Minute + 2*time.Second))
	if got := text(tab.query(filter{})); len(got) != 0 {
		t.Errorf("rows %q", got)
	}
}

func TestReorderedHeartbeats(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		send(t, r, 1000, region("db/0/a:1/dc1", leader, term(7)))
		send(t, r, 1001, region("db/0/a:1/dc1", secondary, term(8)))
		send(t, r, 990, region("db/0/a:1/dc1", leader, term(7)))
		r.wantRows(t, "db/0/a:1/dc1 PRIMARY_FOLLOWER")
		// Within the same two seconds the order of arrival counts.
		send(t, r, 999, region("db/0/a:1/dc1", leader, term(9)))
		r.wantRows(t, "db/0/a:1/dc1 LEADER")
		send(t, r, 0, region("db/0/a:1/dc1", slave)) // tells no time
		r.wantRows(t, "db/0/a:1/dc1 ACTIVE_SLAVE")
		send(t, r, 1002, region("db/0/a:1/dc1", leader, term(9)))
		// The node's clock goes back: it is believed as soon as nothing newer came
		// for a while.
		for range 12 {
			after(time.Second)
			send(t, r, 10, region("db/0/a:1/dc1", secondary, term(10)))
		}
		r.wantRows(t, "db/0/a:1/dc1 PRIMARY_FOLLOWER")
	})
}

// TestDamagedRow serves all rows but the one that cannot be read, until its node has
// sent it again.
func TestDamagedRow(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		r.send(t, region("db/0/a:1/dc1", leader), region("db/0/b:1/dc1", secondary))
		bad := kv.Mutation{Key: keyOf(region("db/0/b:1/dc1", secondary)).stored(), Value: []byte{0xff}}
		if err := propose(t.Context(), copyOf{l, 1}, []kv.Mutation{bad}); err != nil {
			t.Fatal(err)
		}
		l.elect(1)
		after(time.Second)
		r.wantRows(t, "db/0/a:1/dc1 LEADER")
		r.send(t, region("db/0/b:1/dc1", secondary))
		r.wantRows(t, "db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 PRIMARY_FOLLOWER")
		if got := l.stored(t); len(got) != 2 {
			t.Errorf("stored: %q", got)
		}
	})
}
