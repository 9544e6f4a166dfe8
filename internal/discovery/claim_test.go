package discovery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

func vBuckets(n uint32) func(*serverpb.RegionInfo) {
	return func(r *serverpb.RegionInfo) { r.VBuckets = n }
}

// TestSecondClusterIsRefused registers nodes of a second cluster under the name of a
// database that another one holds: with the same layout, and with any other.
func TestSecondClusterIsRefused(t *testing.T) {
	_, sites := newSites(t)
	sites[1].update(t, region("db/default/m:1/dc1", leader, cluster("ours"), term(1), vBuckets(1)))
	sites[1].update(t, region("cut/0/m:1/dc1", leader, cluster("a0"), term(1), vBuckets(2)), region("cut/1/m:1/dc1", leader, cluster("a1"), term(1), vBuckets(2)))
	want := []string{"cut/0/m:1/dc1 LEADER", "cut/1/m:1/dc1 LEADER", "db/default/m:1/dc1 LEADER"}
	theirs := func(edit ...func(*serverpb.RegionInfo)) []func(*serverpb.RegionInfo) {
		return append(edit, cluster("theirs"), history("h"), term(99))
	}
	for _, c := range []struct {
		name string
		rows []*serverpb.RegionInfo
		want []string // in the message
	}{
		{"leader", []*serverpb.RegionInfo{region("db/default/a:1/dc1", leader, theirs(vBuckets(1))...)}, []string{"cluster ours", "m:1", "cluster theirs", "a:1", "dkvctl -releaseDatabase db"}},
		{"at the same address", []*serverpb.RegionInfo{region("db/default/m:1/dc1", leader, theirs(vBuckets(1))...)}, []string{"cluster ours", "cluster theirs"}},
		{"follower", []*serverpb.RegionInfo{region("db/default/a:1/dc1", secondary, theirs(vBuckets(1))...)}, []string{"cluster theirs"}},
		{"slave", []*serverpb.RegionInfo{region("db/default/a:1/dc1", slave, theirs(vBuckets(1))...)}, []string{"cluster theirs"}},
		{"inactive", []*serverpb.RegionInfo{region("db/default/a:1/dc1", inactive, theirs(vBuckets(1))...)}, []string{"cluster theirs"}},
		{"without a layout", []*serverpb.RegionInfo{region("db/default/a:1/dc1", leader, theirs()...)}, []string{"cluster theirs"}},
		{"another vBucket's name", []*serverpb.RegionInfo{region("db/v/a:1/dc1", leader, theirs(vBuckets(1))...)}, []string{`1 vBucket, "default"`, `1 vBucket, "v"`, "-releaseDatabase"}},
		{"more vBuckets", []*serverpb.RegionInfo{region("db/0/a:1/dc1", leader, theirs(vBuckets(8))...)}, []string{`1 vBucket, "default"`, "8 vBuckets"}},
		{"the same cluster, cut otherwise", []*serverpb.RegionInfo{region("db/0/a:1/dc1", leader, cluster("ours"), vBuckets(8))}, []string{"8 vBuckets"}},
		{"fewer vBuckets", []*serverpb.RegionInfo{region("cut/default/a:1/dc1", leader, theirs(vBuckets(1))...)}, []string{"2 vBuckets", `1 vBucket, "default"`}},
		{"no cluster, as a master", []*serverpb.RegionInfo{region("db/default/a:1/dc1", leader, term(99))}, []string{"a cluster without an id"}},
		{"no cluster, another vBucket", []*serverpb.RegionInfo{region("db/7/a:1/dc1", slave)}, []string{`vBucket "7"`}},
		{"one of several vBuckets", []*serverpb.RegionInfo{
			region("cut/0/a:1/dc1", leader, theirs(vBuckets(2))...), region("cut/1/a:1/dc1", leader, cluster("a1"), vBuckets(2)),
		}, []string{"cluster theirs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range sites[:2] {
				_, err := s.DKVDiscoveryClient.UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: c.rows[0], More: c.rows[1:]})
				st := status.Convert(err)
				for _, text := range c.want {
					if st.Code() != codes.FailedPrecondition || !strings.Contains(st.Message(), text) {
						t.Errorf("%v, want %q", err, text)
					}
				}
			}
		})
	}
	if got := sites[0].info(t, new(serverpb.GetClusterInfoRequest)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows %q", got)
	}
	if o, _ := sites[0].Observe(); o.Refused[refusedCluster] == 0 || o.Disputed != 2 {
		t.Errorf("%+v", o)
	}
}

// TestNodesWithoutClusterGoOn serves nodes of earlier releases, which name no cluster
// and no layout: among themselves, and as slaves of one that does.
func TestNodesWithoutClusterGoOn(t *testing.T) {
	_, sites := newSites(t)
	old := []*serverpb.RegionInfo{region("db/x/a:1/dc1", leader), region("db/y/b:1/dc1", leader), region("db/y/c:1/dc1", primary)}
	for range 2 {
		for _, r := range old {
			sites[1].update(t, r)
		}
	}
	sites[1].update(t, region("new/default/m:1/dc1", leader, cluster("ours"), vBuckets(1)))
	sites[1].update(t, region("new/default/s:1/dc1", slave), region("new/default/t:1/dc1", inactive))
	want := []string{"db/x/a:1/dc1 LEADER", "db/y/b:1/dc1 LEADER", "db/y/c:1/dc1 PRIMARY_FOLLOWER", "new/default/m:1/dc1 LEADER", "new/default/s:1/dc1 ACTIVE_SLAVE"}
	if got := sites[0].info(t, new(serverpb.GetClusterInfoRequest)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rows %q", got)
	}
}

// TestAnonymousMastersHoldWhileTheyLive lets a cluster that names itself have a vBucket
// once the masters are gone that do not.
func TestAnonymousMastersHoldWhileTheyLive(t *testing.T) {
	simulate(t, func(t *testing.T, _ *log, r *Registry) {
		c := newCast(t, r)
		c.says("b", leader, origin{known: true}, 0)
		c.says("c", slave, origin{known: true}, 0)
		c.tries("a", leader, ours, 1, "name no cluster (leader b)")
		c.run(10 * time.Second)
		c.leads("b")
		c.says("b", leader, ours, 1) // of a later release now
		c.says("a", secondary, ours, 1)
		c.run(4 * time.Second)
		c.leads("b")
		c.shows("a", "b", "c")
	})
	simulate(t, func(t *testing.T, _ *log, r *Registry) {
		c := newCast(t, r)
		c.says("b", leader, origin{known: true}, 0)
		c.dies("b")
		c.run(65 * time.Second)
		c.says("a", leader, ours, 1)
		c.leads("a")
		c.tries("b", leader, origin{known: true}, 9, "a cluster without an id")
	})
}

// TestHolderIsKept has the cluster that holds a database restart, partly and wholly,
// and the registry change owners meanwhile: another cluster is refused all the time.
func TestHolderIsKept(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		stray := func() { t.Helper(); c.tries("a-stray", leader, theirs, 9, "cluster ours") }
		stray()
		c.says("m1", secondary, ours, 4) // hands over
		stray()
		c.run(10 * time.Second)
		c.leads("")
		c.says("m2", leader, ours, 4)
		c.leads("m2")
		for _, n := range []string{"m1", "m2", "m3", "s1"} {
			c.stops(n)
		}
		for range 4 {
			c.run(time.Minute)
			stray()
			l.elect(1)
			after(time.Second)
			stray()
			c.shows()
		}
		c.says("m1", inactive, origin{known: true}, 0) // does not know yet who it is
		c.run(4 * time.Minute)
		stray()
		c.says("m1", leader, ours, 5)
		c.leads("m1")
		c.dies("m1")
		c.says("s1", slave, ours, 5) // has the data
		c.run(20 * time.Minute)
		stray()
	})
}

// TestHolderThatIsGone releases a database by itself once nothing of its holder was
// heard for the time for which rows are kept.
func TestHolderThatIsGone(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		c.says("old-slave", slave, origin{known: true}, 0) // names no cluster, and holds nothing
		c.dies("m1", "m2", "m3", "s1")
		c.run(4*time.Minute + 50*time.Second)
		c.tries("a-stray", leader, theirs, 9, "cluster ours")
		c.run(15 * time.Second)
		c.says("a-stray", leader, theirs, 9)
		c.leads("a-stray")
		c.shows("a-stray", "old-slave")
		c.tries("m1", leader, ours, 10, "cluster theirs") // too late
		l.elect(1)
		c.run(10 * time.Second)
		c.tries("m1", leader, ours, 10, "cluster theirs")
		c.leads("a-stray")
		c.dies("a-stray", "old-slave")
		c.run(6 * time.Minute)
		if got := l.keys(t); got != 0 {
			t.Errorf("%d keys are stored of nothing", got)
		}
	})
}

// TestReleaseDatabase lets go of a holder, which lives: another cluster may have the
// database then, and the former one may not take it back at once.
func TestReleaseDatabase(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		release := func(name string) error {
			_, err := c.to.ReleaseDatabase(t.Context(), &serverpb.ReleaseDatabaseRequest{Database: name})
			return err
		}
		for _, name := range []string{"", "other", strings.Repeat("x", 1<<20)} {
			if err := release(name); kv.KindOf(err) != kv.NotFound && kv.KindOf(err) != kv.Invalid {
				t.Errorf("release of %.10q: %v", name, err)
			}
		}
		if err := release("db"); err != nil {
			t.Fatal(err)
		}
		c.shows()
		if got := l.keys(t); got != 0 {
			t.Errorf("%d keys are stored", got)
		}
		c.tries("m1", leader, ours, 3, "was taken from cluster ours")
		c.nodes = make(map[string]*serverpb.RegionInfo)
		c.says("a", leader, theirs, 1)
		c.leads("a")
		c.tries("m1", leader, ours, 3, "cluster theirs")
		// If none is waiting, the former holder has it again after a while.
		if err := release("db"); err != nil {
			t.Fatal(err)
		}
		c.dies("a")
		c.run(70 * time.Second)
		c.says("a", leader, theirs, 1)
		c.leads("a")
	})
}

// TestReleaseAtAnyNode asks a node that does not own the registry.
func TestReleaseAtAnyNode(t *testing.T) {
	_, sites := newSites(t)
	sites[1].update(t, region("db/default/m:1/dc1", leader, cluster("ours"), vBuckets(1)))
	res, err := sites[2].DKVDiscoveryClient.ReleaseDatabase(t.Context(), &serverpb.ReleaseDatabaseRequest{Database: "db"})
	if err != nil || !strings.Contains(res.GetMessage(), "cluster ours") {
		t.Error(res, err)
	}
	sites[1].update(t, region("db/0/a:1/dc1", leader, cluster("theirs"), vBuckets(4)))
	if got := sites[0].info(t, new(serverpb.GetClusterInfoRequest)); fmt.Sprint(got) != "[db/0/a:1/dc1 LEADER]" {
		t.Errorf("rows %q", got)
	}
}

// TestClaimsInOneWrite has two clusters claim a vBucket before either is stored.
func TestClaimsInOneWrite(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	tab.heartbeat(now, 0, region("db/0/m:1/dc1", secondary, cluster("ours"), term(1)))
	if _, err := tab.heartbeat(now, 0, region("db/0/a:1/dc1", leader, cluster("theirs"), term(9))); kv.KindOf(err) != kv.Precondition {
		t.Error(err)
	}
	tab.mu.Lock()
	tab.storeAll(now)
	tab.mu.Unlock()
	if got := fmt.Sprint(text(tab.query(filter{}))); got != "[db/0/m:1/dc1 PRIMARY_FOLLOWER]" {
		t.Errorf("rows %q", got)
	}
}

// TestReleaseWhileRowsAreStored: rows that are being stored when their database is released, new
// or changed, do not give it back to the former holder.
func TestReleaseWhileRowsAreStored(t *testing.T) {
	row := func(node string, n uint64) *serverpb.RegionInfo {
		return region("db/0/"+node+":1/dc1", secondary, cluster("ours"), vBuckets(2), term(n))
	}
	for _, known := range []bool{false, true} {
		tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
		now := time.Now()
		if known {
			tab.say(now, row("m1", 1), row("m2", 1))
		}
		tab.heartbeat(now, 0, row("m1", 2))
		stored := tab.take()
		tab.heartbeat(now, 0, row("m2", 2))
		if _, _, err := tab.expel("db", now); err != nil {
			t.Fatal(err)
		}
		for _, c := range stored.changes {
			tab.apply(&c, now)
		}
		tab.mu.Lock()
		tab.storeAll(now)
		tab.mu.Unlock()
		if d := tab.databases["db"]; len(tab.rows) > 0 || d.isHeld() || d.recorded.known() || len(d.groups) > 0 {
			t.Errorf("known before: %v; %d rows of the former holder, layout %v, stored %v", known, len(tab.rows), d.layout, d.recorded)
		}
		if _, err := tab.heartbeat(now, 0, region("db/0/a:1/dc1", leader, cluster("theirs"), vBuckets(1<<3))); err != nil {
			t.Errorf("known before: %v; %v", known, err)
		}
	}
}

// TestLayoutIsKept stores how a database is cut.
func TestLayoutIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.elect(1)
		r := newRegistry(t, l, 1, Options{})
		r.send(t, region("db/default/m:1/dc1", leader, cluster("ours"), vBuckets(1)))
		l.elect(1)
		after(time.Second)
		_, err := r.UpdateStatus(context.Background(), &serverpb.UpdateStatusRequest{RegionInfo: region("db/0/a:1/dc1", slave, vBuckets(4))})
		if kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), `1 vBucket, "default"`) {
			t.Error(err)
		}
	})
}

// TestClaimThatCouldNotBeStored leaves a database to others, which are cut otherwise.
func TestClaimThatCouldNotBeStored(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		for _, row := range []*serverpb.RegionInfo{
			region("db/default/x:1/dc1", leader, cluster("theirs"), vBuckets(1)),
			region("other/default/x:1/dc1", slave, vBuckets(1)),
		} {
			if _, err := r.UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: row}); kv.KindOf(err) != kv.Exhausted {
				t.Fatal(err)
			}
		}
		l.fail(nil)
		r.send(t, region("db/0/a:1/dc1", leader, cluster("ours"), vBuckets(2)))
		r.send(t, region("other/0/a:1/dc1", leader, cluster("ours"), vBuckets(2)))
		r.wantRows(t, "db/0/a:1/dc1 LEADER", "other/0/a:1/dc1 LEADER")
	})
}

// TestClaimAmongOthersThatCouldNotBeStored leaves a vBucket, and how the database is cut, to others
// although it has the row of a slave that names no cluster: the row is not of the claim, or is the
// one that could not be changed.
func TestClaimAmongOthersThatCouldNotBeStored(t *testing.T) {
	for _, node := range []string{"x", "old"} {
		simulate(t, func(t *testing.T, l *log, r *Registry) {
			r.send(t, region("db/0/old:1/dc1", slave))
			l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
			row := region("db/0/"+node+":1/dc1", leader, cluster("theirs"), vBuckets(2))
			if _, err := r.UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: row}); kv.KindOf(err) != kv.Exhausted {
				t.Fatal(err)
			}
			l.fail(nil)
			after(3 * time.Second)
			r.send(t, region("db/0/a:1/dc1", leader, cluster("ours"), vBuckets(4)))
			r.wantRows(t, "db/0/a:1/dc1 LEADER", "db/0/old:1/dc1 ACTIVE_SLAVE")
		})
	}
}

// TestLeadingHistoryWithoutItsRow stores the history of a claim, but not the row.
func TestLeadingHistoryWithoutItsRow(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	tab.heartbeat(now, 0, region("db/0/old:1/dc1", slave))
	tab.storeAll(now)
	tab.heartbeat(now, 0, region("db/0/x:1/dc1", leader, cluster("theirs"), history("h")))
	changes := tab.due()
	tab.apply(&changes[0], now)
	tab.giveBack(changes[1:])
	tab.storeAll(now)
	g := tab.groupAt(place{database: "db", vBucket: "0"})
	if changes[0].kind != leads || g.cluster != "" || g.leading.known || g.recorded.known || len(g.rows) != 1 {
		t.Errorf("%q holds the vBucket, %v leads it and %v is stored, of %d rows", g.cluster, g.leading, g.recorded, len(g.rows))
	}
}

// TestLayoutIsStoredLater has the store fail when a layout is first known, and when its
// database is released.
func TestLayoutIsStoredLater(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		row := region("db/0/a:1/dc1", slave, cluster("ours"), vBuckets(2))
		r.send(t, region("db/0/old:1/dc1", slave))
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		if _, err := r.UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: row}); kv.KindOf(err) != kv.Exhausted {
			t.Fatal(err)
		}
		l.fail(nil)
		r.send(t, row)
		after(3 * time.Second)
		if n := l.keys(t); n != 3 {
			t.Errorf("%d keys are stored, not two rows and the layout", n)
		}
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		after(6 * time.Minute)
		l.fail(nil)
		after(3 * time.Second)
		if n := l.keys(t); n != 0 || len(r.current.Load().table.databases) != 0 {
			t.Errorf("%d keys are stored of a database that was released", n)
		}
	})
}

// TestReleaseIsStoredLater has the store fail when a database is released: the next owner of the
// registry does not give it back to the former holder.
func TestReleaseIsStoredLater(t *testing.T) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		r.send(t, region("db/0/a:1/dc1", leader, cluster("ours"), history("h"), vBuckets(2)))
		l.fail(kv.Errorf(kv.Exhausted, "the disk is full"))
		if _, err := r.ReleaseDatabase(t.Context(), &serverpb.ReleaseDatabaseRequest{Database: "db"}); kv.KindOf(err) != kv.Exhausted {
			t.Fatal(err)
		}
		l.fail(nil)
		after(3 * time.Second)
		if n := l.keys(t); n != 0 {
			t.Errorf("%d keys are stored of a database that was released", n)
		}
		if n := len(r.current.Load().table.owed); n != 0 {
			t.Errorf("%d changes are still to be stored", n)
		}
	})
}

// TestLeadingHistoryIsStoredLater has the store fail when another history takes the lead: the next
// owner would not know it.
func TestLeadingHistoryIsStoredLater(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	tab.heartbeat(now, 0, region("db/0/a:1/dc1", leader, cluster("ours"), history("h")))
	tab.storeAll(now)
	tab.heartbeat(now, 0, region("db/0/b:1/dc1", leader, cluster("ours"), history("1-h")))
	for _, c := range tab.due() {
		tab.apply(&c, now)
	}
	tab.giveBack(tab.due())
	tab.expire(now)
	tab.storeAll(now)
	if g := tab.groupAt(place{database: "db", vBucket: "0"}); g.leading.history != "1-h" || g.recorded != g.leading {
		t.Errorf("%v leads, and %v is stored", g.leading, g.recorded)
	}
}
