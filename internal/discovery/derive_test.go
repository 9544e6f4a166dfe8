package discovery

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/dkvdb/dkv/api/serverpb"
	_ "github.com/dkvdb/dkv/internal/testkit/seed" // draws the same values in every run
)

// say has a table take rows as if they had been stored.
func (t *table) say(now time.Time, rows ...*serverpb.RegionInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range rows {
		t.apply(&change{key: keyOf(in), info: in}, now)
	}
	t.storeAll(now)
}

// storeAll has what a table wants to be stored be stored.
func (t *table) storeAll(now time.Time) {
	for t.open != nil {
		for _, c := range t.due() {
			t.apply(&c, now)
		}
	}
}

// due takes what is to be stored, in order.
func (t *table) due() (out []change) {
	b := t.open
	t.open = nil
	for _, key := range slices.SortedFunc(maps.Keys(b.changes), rowKey.compare) {
		out = append(out, b.changes[key])
	}
	return out
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		name string
		rows []*serverpb.RegionInfo // in the order of their coming
		want []string
	}{
		{"one of each", []*serverpb.RegionInfo{
			region("db/0/a:1/dc1", leader), region("db/0/b:1/dc1", secondary), region("db/0/c:1/dc1", secondary),
			region("db/0/d:1/dc1", inactive), region("db/0/e:1/dc1", slave),
		}, []string{"db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 PRIMARY_FOLLOWER", "db/0/c:1/dc1 SECONDARY_FOLLOWER", "db/0/e:1/dc1 ACTIVE_SLAVE"}},
		{"old nodes call themselves primary", []*serverpb.RegionInfo{
			region("db/0/b:1/dc1", primary), region("db/0/c:1/dc1", primary),
		}, []string{"db/0/b:1/dc1 PRIMARY_FOLLOWER", "db/0/c:1/dc1 SECONDARY_FOLLOWER"}},
		{"the primary follower stays", []*serverpb.RegionInfo{
			region("db/0/c:1/dc1", secondary), region("db/0/b:1/dc1", secondary), region("db/0/a:1/dc2", secondary),
		}, []string{"db/0/a:1/dc2 PRIMARY_FOLLOWER", "db/0/b:1/dc1 SECONDARY_FOLLOWER", "db/0/c:1/dc1 PRIMARY_FOLLOWER"}},
		{"the primary follower leads", []*serverpb.RegionInfo{
			region("db/0/c:1/dc1", secondary), region("db/0/b:1/dc1", secondary), region("db/0/c:1/dc1", leader),
		}, []string{"db/0/b:1/dc1 PRIMARY_FOLLOWER", "db/0/c:1/dc1 LEADER"}},
		{"the primary follower moves", []*serverpb.RegionInfo{
			region("db/0/a:1/dc1", secondary), region("db/0/b:1/dc1", secondary), region("db/0/a:1/dc2", secondary),
		}, []string{"db/0/a:1/dc2 PRIMARY_FOLLOWER", "db/0/b:1/dc1 PRIMARY_FOLLOWER"}},
		{"the higher term leads", []*serverpb.RegionInfo{
			region("db/0/a:1/dc1", leader, term(2)), region("db/0/b:1/dc1", leader, term(3)), region("db/0/c:1/dc1", leader, term(1)),
		}, []string{"db/0/a:1/dc1 SECONDARY_FOLLOWER", "db/0/b:1/dc1 LEADER", "db/0/c:1/dc1 SECONDARY_FOLLOWER"}},
		{"of equal terms the present one leads", []*serverpb.RegionInfo{
			region("db/0/b:1/dc1", leader, term(2)), region("db/0/a:1/dc1", leader, term(2)),
		}, []string{"db/0/a:1/dc1 SECONDARY_FOLLOWER", "db/0/b:1/dc1 LEADER"}},
		{"each vBucket and database has its leader", []*serverpb.RegionInfo{
			region("db/0/a:1/dc1", leader), region("db/1/a:1/dc1", leader), region("other/0/b:1/dc1", leader),
		}, []string{"db/0/a:1/dc1 LEADER", "db/1/a:1/dc1 LEADER", "other/0/b:1/dc1 LEADER"}},
		{"terms of another history do not count", []*serverpb.RegionInfo{
			region("db/0/a:1/dc1", leader, term(2), history("new")), region("db/0/b:1/dc1", leader, term(9), history("old")),
		}, []string{"db/0/a:1/dc1 LEADER", "db/0/b:1/dc1 SECONDARY_FOLLOWER"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
			tab.say(time.Now(), c.rows...)
			if got := text(tab.query(filter{})); !slices.Equal(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// TestLeaderAtAnotherAddress: a standalone master that was killed and is back under another
// address is the leader as soon as the row of the former address misses heartbeats.
func TestLeaderAtAnotherAddress(t *testing.T) {
	for _, former := range []string{"a", "c"} {
		tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
		now := time.Now()
		say := func(node string) {
			now = now.Add(time.Second)
			tab.heartbeat(now, 0, region("db/0/"+node+":1/dc1", leader, cluster("ours"), history("h")))
			tab.mu.Lock()
			defer tab.mu.Unlock()
			tab.storeAll(now)
		}
		leads := func(node string) {
			t.Helper()
			tab.groups(filter{}, func(g *group) {
				if g.leader.key.node != node+":1" || g.leader.info.GetStatus() != leader {
					t.Errorf("%s leads, want %s", g.leader.key.node, node)
				}
			})
		}
		say(former)
		say("b")
		leads(former)
		for range 3 {
			say("b")
		}
		leads("b")
		say(former) // had only hung
		leads("b")
	}
}

// TestLeaderStaysIfTheRegistryWasStopped: of two standalone masters of one history, as a copy of a
// folder makes them, the same one leads when the registry reads heartbeats again after it had
// been stopped, whichever comes first. It does not if it is silent from then on.
func TestLeaderStaysIfTheRegistryWasStopped(t *testing.T) {
	for _, looksFirst := range []bool{false, true} {
		tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
		now := time.Now()
		say := func(nodes ...string) {
			for _, node := range nodes {
				tab.heartbeat(now, 0, region("db/0/"+node+":1/dc1", leader, cluster("ours"), history("h")))
				tab.mu.Lock()
				tab.storeAll(now)
				tab.mu.Unlock()
			}
		}
		second := func() {
			now = now.Add(time.Second)
			tab.expire(now)
		}
		leads := func(node string) {
			t.Helper()
			if got := tab.groupAt(place{database: "db", vBucket: "0"}).leader; got.key.node != node+":1" {
				t.Errorf("looks first %v: %s leads, want %s", looksFirst, got.key.node, node)
			}
		}
		say("b", "a")
		for range 5 {
			second()
			say("b", "a")
		}
		now = now.Add(5 * time.Second)
		if looksFirst {
			tab.expire(now)
		}
		say("a")
		leads("b")
		if !looksFirst {
			tab.expire(now)
		}
		say("a")
		leads("b")
		say("b")
		for range 5 {
			second()
			say("a")
		}
		leads("a")
	}
}

// step is one thing that may happen to a registry. storing is what is being stored.
func step(t *rapid.T, tab *table, now *time.Time, storing *[]change) {
	switch rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2, 2, 2}).Draw(t, "what") {
	case 0:
		*now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
		tab.looked = *now // time passed for all
		tab.expire(*now)
	case 1: // what was staged is stored, one after the other
		tab.mu.Lock()
		if len(*storing) == 0 && tab.open != nil {
			*storing = tab.due()
		}
		if len(*storing) > 0 {
			tab.apply(&(*storing)[0], *now)
			*storing = (*storing)[1:]
		}
		tab.mu.Unlock()
	default:
		name := fmt.Sprintf("db/%d/%s:1/dc%d", rapid.IntRange(0, 1).Draw(t, "vBucket"),
			rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "node"), rapid.IntRange(1, 2).Draw(t, "dc"))
		status := serverpb.RegionStatus(rapid.IntRange(0, 4).Draw(t, "status"))
		tab.heartbeat(*now, 0, region(name, status, term(rapid.Uint64Range(1, 3).Draw(t, "term")),
			cluster(rapid.SampledFrom([]string{"", "c1", "c2"}).Draw(t, "cluster")),
			history(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "history")),
			func(r *serverpb.RegionInfo) { r.Slaves = rapid.Uint32Range(0, 1).Draw(t, "slaves") }))
	}
}

// TestStatusesAreTrue checks after each of any steps what is always so, and that
// watchers know just what a query would return.
func TestStatusesAreTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable(times{timeout: time.Minute, ttl: 2 * time.Minute}, Limits{}.orDefault())
		now := time.Unix(1e9, 0)
		dc := "dc1"
		follows := []*follower{newFollower(tab, filter{}), newFollower(tab, filter{dc: &dc})}
		var storing []change
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			before := primaries(tab)
			step(t, tab, &now, &storing)
			checkLeaders(t, tab)
			checkPrimaries(t, tab, before)
			for _, f := range follows {
				if rapid.Bool().Draw(t, "fetches") {
					f.check(t, tab)
				}
			}
		}
		for _, c := range storing {
			tab.apply(&c, now)
		}
		checkBooks(t, tab)
		for _, f := range follows {
			f.check(t, tab)
		}
	})
}

// checkLeaders wants at most one leader a vBucket, and one if any node of the leading
// history claims to be it, the one of the highest term; and that rows are of one cluster.
func checkLeaders(t *rapid.T, tab *table) {
	tab.groups(filter{}, func(g *group) {
		var led *row
		claims, others := 0, 0
		for _, r := range g.rows {
			switch {
			case r.claims() && originOf(r.info) == g.leading:
				claims++
			case r.claims():
				others++
			}
			if r.info.GetStatus() == leader {
				if led != nil {
					t.Fatalf("two leaders of %v: %v and %v", g.place, led.info, r.info)
				}
				led = r
			}
			if id := r.info.GetClusterID(); id != "" && id != g.cluster && !r.silent() {
				t.Fatalf("%v is a row of cluster %q", r.info, g.cluster)
			}
		}
		if (led != nil) != (claims > 0) {
			t.Fatalf("leader %v of %d that claim to be", led, claims)
		}
		if g.contested != (claims > 1 || others > 0) {
			t.Fatalf("contested %v by %d and %d others", g.contested, claims, others)
		}
		for _, r := range g.rows {
			if led != nil && r.claims() && originOf(r.info) == g.leading && r.info.GetTerm() > led.info.GetTerm() {
				t.Fatalf("%v leads, and not %v", led.info, r.info)
			}
		}
	})
}

// primaries are the primary followers by vBucket and data centre.
func primaries(tab *table) map[string]*row {
	out := make(map[string]*row)
	for _, r := range tab.rows {
		if r.info.GetStatus() == primary {
			out[fmt.Sprint(r.key.place, r.info.GetDcID())] = r
		}
	}
	return out
}

// checkPrimaries wants exactly one primary follower wherever there are followers,
// and the same one as before while it is one.
func checkPrimaries(t *rapid.T, tab *table, before map[string]*row) {
	number := make(map[string]int)
	followed := make(map[string]bool)
	for _, r := range tab.rows {
		at := fmt.Sprint(r.key.place, r.info.GetDcID())
		if r.info.GetStatus() == primary {
			number[at]++
		}
		if r.follows() {
			followed[at] = true
			if before[at] == r && r.info.GetStatus() != primary {
				t.Fatalf("%v was the primary follower, and could have stayed", r.info)
			}
		}
	}
	for at, n := range number {
		if n != 1 || !followed[at] {
			t.Fatalf("%d primary followers of %s", n, at)
		}
	}
	if len(number) != len(followed) {
		t.Fatalf("followers at %v, primary ones at %v", followed, number)
	}
}

// checkBooks wants each row to be queued once, in the order of the heartbeats, and the
// leading histories to be stored.
func checkBooks(t *rapid.T, tab *table) {
	tab.mu.Lock()
	tab.storeAll(time.Unix(2e9, 0))
	tab.mu.Unlock()
	queued := 0
	for a, q := range tab.queues {
		var last time.Time
		for e := q.Front(); e != nil; e = e.Next() {
			r := e.Value.(*row)
			if r.age != age(a) || r.queued != e || tab.rows[r.key] != r || r.heard.Before(last) {
				t.Fatalf("row %v is queued wrongly", r.key)
			}
			last = r.heard
			queued++
		}
	}
	for _, r := range tab.rows {
		if r.queued == nil {
			queued++ // is being purged, or heard again
		}
		if r.silent() && r.visible() {
			t.Fatalf("%v is shown and was not heard", r.info)
		}
	}
	tab.groups(filter{}, func(g *group) {
		if g.recorded != g.leading {
			t.Fatalf("%v leads %v, and %v is stored", g.leading, g.place, g.recorded)
		}
	})
	if queued != len(tab.rows) {
		t.Fatalf("%d of %d rows are queued", queued, len(tab.rows))
	}
	checkCounts(t, tab)
}

// checkCounts compares what is kept up to date row by row with what the rows say.
func checkCounts(t *rapid.T, tab *table) {
	weight := 0
	for _, d := range tab.databases {
		ofDatabase, held := 0, 0
		for _, g := range d.groups {
			alive, anonymous, claims, follows := 0, 0, 0, 0
			origins := make(map[origin]int)
			for _, r := range g.rows {
				ofDatabase += r.weight
				origins[originOf(r.info)]++
				alive += ifTrue(!r.silent())
				anonymous += ifTrue(r.masters() && r.info.GetClusterID() == "")
				claims += ifTrue(r.claims())
				follows += ifTrue(r.follows())
				if r.claims() != (r.claim >= 0) || r.follows() != (r.follow >= 0) || r.weight != weightOf(r.info) {
					t.Fatalf("row %+v", r)
				}
			}
			for o, n := range origins {
				if g.origins[o].rows != n {
					t.Fatalf("%d rows of %v, want %d", g.origins[o].rows, o, n)
				}
			}
			for _, h := range g.followers {
				follows -= h.Len()
			}
			if len(origins) != len(g.origins) || alive != g.alive || anonymous != g.anonymous || claims != g.claimants || follows != 0 {
				t.Fatalf("group %+v", g)
			}
			held += ifTrue(g.cluster != "")
		}
		if d.weight != ofDatabase || d.claims != held {
			t.Fatalf("database %+v weighs %d", d, ofDatabase)
		}
		weight += ofDatabase
	}
	if weight != tab.weight {
		t.Fatalf("the rows weigh %d, and not %d", weight, tab.weight)
	}
}

func ifTrue(b bool) int {
	if b {
		return 1
	}
	return 0
}

// follower is a watcher with what it has been told.
type follower struct {
	w    *watcher
	rows map[rowKey]*serverpb.RegionInfo
}

func newFollower(tab *table, f filter) *follower {
	w, rows := tab.watch(f)
	out := &follower{w: w, rows: make(map[rowKey]*serverpb.RegionInfo)}
	for _, r := range rows.sorted() {
		out.rows[keyOf(r)] = r
	}
	return out
}

// check fetches, and compares with a query.
func (f *follower) check(t *rapid.T, tab *table) {
	if len(f.w.pending) > 8 {
		t.Fatalf("%d changes of 8 rows are kept", len(f.w.pending))
	}
	rows, gone, err := tab.fetch(f.w)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range gone {
		delete(f.rows, keyOf(r))
	}
	for _, r := range rows {
		f.rows[keyOf(r)] = r
	}
	got := slices.Collect(maps.Values(f.rows))
	sortRows(got)
	want := tab.query(f.w.filter)
	if !slices.EqualFunc(got, want, func(a, b *serverpb.RegionInfo) bool { return proto.Equal(a, b) }) {
		t.Fatalf("watched %v\nwant    %v", got, want)
	}
}
