package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/kv"
)

// cast is the nodes of one vBucket, each of which says each second what it is.
type cast struct {
	t     *testing.T
	to    *Registry
	nodes map[string]*serverpb.RegionInfo
}

func newCast(t *testing.T, to *Registry) *cast {
	return &cast{t: t, to: to, nodes: make(map[string]*serverpb.RegionInfo)}
}

// says has a node say something else from now on.
func (c *cast) says(node string, s serverpb.RegionStatus, of origin, term uint64) {
	c.t.Helper()
	c.nodes[node] = &serverpb.RegionInfo{Database: "db", VBucket: "0", NodeAddress: node, DcID: "dc1", Status: s,
		ClusterID: of.cluster, HistoryID: of.history, Term: term}
	c.to.send(c.t, c.nodes[node])
}

// tries has a node say something once, which is refused with a text.
func (c *cast) tries(node string, s serverpb.RegionStatus, of origin, term uint64, want string) {
	c.t.Helper()
	info := &serverpb.RegionInfo{Database: "db", VBucket: "0", NodeAddress: node, DcID: "dc1", Status: s,
		ClusterID: of.cluster, HistoryID: of.history, Term: term}
	_, err := c.to.UpdateStatus(c.t.Context(), &serverpb.UpdateStatusRequest{RegionInfo: info, Timestamp: uint64(time.Now().Unix())})
	if kv.KindOf(err) != kv.Precondition || !strings.Contains(err.Error(), want) {
		c.t.Fatalf("%v, want %q", err, want)
	}
}

// stops has a node take its leave.
func (c *cast) stops(node string) {
	c.t.Helper()
	last := c.nodes[node]
	c.says(node, inactive, originOf(last), last.GetTerm())
	delete(c.nodes, node)
}

// dies has nodes fall silent.
func (c *cast) dies(nodes ...string) {
	for _, n := range nodes {
		delete(c.nodes, n)
	}
}

// run lets time pass.
func (c *cast) run(d time.Duration) {
	c.t.Helper()
	for range d / time.Second {
		after(time.Second)
		for _, r := range c.nodes {
			c.to.send(c.t, r)
		}
	}
}

// leads wants a node to lead; "" is none.
func (c *cast) leads(want string) {
	c.t.Helper()
	rows, err := c.to.Rows(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	got := ""
	for _, r := range rows {
		if r.GetStatus() == leader {
			got = r.GetNodeAddress()
		}
	}
	if got != want {
		c.t.Fatalf("%q leads, want %q, of %q", got, want, text(rows))
	}
}

// shows wants just these nodes to be shown.
func (c *cast) shows(want ...string) {
	c.t.Helper()
	rows, err := c.to.Rows(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	got := []string{}
	for _, r := range rows {
		got = append(got, r.GetNodeAddress())
	}
	if !slices.Equal(got, want) {
		c.t.Fatalf("%q are shown, want %q", text(rows), want)
	}
}

var (
	ours     = origin{cluster: "ours", history: "first", known: true}
	oursNext = origin{cluster: "ours", history: "second", known: true}
	theirs   = origin{cluster: "theirs", history: "theirs", known: true}
)

// play has a healthy cluster of three masters and a slave.
func play(t *testing.T, scene func(t *testing.T, l *log, c *cast)) {
	simulate(t, func(t *testing.T, l *log, r *Registry) {
		c := newCast(t, r)
		c.says("m1", leader, ours, 3)
		c.says("m2", secondary, ours, 3)
		c.says("m3", secondary, ours, 3)
		c.says("s1", slave, ours, 3)
		c.run(10 * time.Second)
		c.leads("m1")
		c.shows("m1", "m2", "m3", "s1")
		scene(t, l, c)
	})
}

// TestRestore has the members of a cluster go over to another history, each when it
// gets there, with and without a change of leaders in between.
func TestRestore(t *testing.T) {
	for _, next := range []string{"m1", "m2"} {
		t.Run("led by "+next, func(t *testing.T) {
			play(t, func(t *testing.T, _ *log, c *cast) {
				c.says("m3", secondary, oursNext, 3)
				c.leads("m1")
				if next == "m2" {
					c.says("m1", secondary, oursNext, 4)
					c.leads("")
				}
				c.says(next, leader, oursNext, 4)
				c.leads(next) // at once
				c.run(10 * time.Second)
				c.leads(next)
				c.shows("m1", "m2", "m3", "s1")
			})
		})
	}
}

// TestPromotion has a slave promoted in the place of a leader that has died, under a
// history of its own: it is seen within seconds, and stays when the former masters are
// back, also while it restarts.
func TestPromotion(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		c.dies("m1", "m2", "m3")
		c.run(time.Second)
		c.says("s1", inactive, origin{known: true}, 0) // does not know yet who it is
		c.says("s1", leader, oursNext, 1)
		c.run(time.Second)
		c.leads("m1")
		c.run(2 * time.Second)
		c.leads("s1")
		c.says("m1", leader, ours, 9)
		c.run(10 * time.Second)
		c.leads("s1")
		c.stops("s1")
		c.run(50 * time.Second)
		c.leads("")
		c.says("s1", leader, oursNext, 2)
		c.leads("s1")
		l.elect(1)
		c.run(10 * time.Second)
		c.leads("s1")
		c.says("m1", slave, oursNext, 2) // it has stepped aside and follows
		c.shows("m1", "s1")
		c.dies("s1")
		c.run(30 * time.Second)
		c.says("m1", leader, origin{cluster: "ours", history: "third", known: true}, 1)
		c.leads("m1")
	})
}

// TestUnseenPromotion promotes a slave that was never seen as one: its history takes
// the lead when there is no master of the former one any more.
func TestUnseenPromotion(t *testing.T) {
	play(t, func(t *testing.T, _ *log, c *cast) {
		c.dies("m1", "m2", "m3")
		c.says("s2", leader, oursNext, 1)
		c.run(50 * time.Second)
		c.leads("m1")
		c.run(15 * time.Second)
		c.leads("s2")
		c.shows("s1", "s2")
	})
}

// TestStoreWithoutLeading has a registry begin with rows of a time when it did not
// write down what leads: most nodes are right.
func TestStoreWithoutLeading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		var rows []kv.Mutation
		for _, r := range []*serverpb.RegionInfo{
			region("db/0/a-stray/dc1", leader, cluster("theirs"), term(9)),
			region("db/0/m1/dc1", leader, cluster("ours"), term(1)),
			region("db/0/m2/dc1", secondary, cluster("ours"), term(1)),
		} {
			value, err := encodeRow(r)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, kv.Mutation{Key: keyOf(r).stored(), Value: value})
		}
		l.elect(1)
		if err := propose(t.Context(), copyOf{l, 1}, rows); err != nil {
			t.Fatal(err)
		}
		r := newRegistry(t, l, 1, Options{})
		after(time.Second)
		c := newCast(t, r)
		c.leads("m1")
		c.shows("m1", "m2")
		if got := l.keys(t); got != 3 { // what leads, and no stray
			t.Errorf("%d keys are stored", got)
		}
	})
}

// TestManyClaimants has each node of a vBucket lead a history of its own: the first one
// leads.
func TestManyClaimants(t *testing.T) {
	tab := newTable(times{timeout: time.Minute, ttl: time.Hour}, Limits{}.orDefault())
	now := time.Now()
	const n = 300
	for i := range n {
		tab.say(now, region(fmt.Sprintf("db/0/n%03d:1/dc1", i), leader, cluster("c"), history(fmt.Sprint(i)), term(uint64(i))))
	}
	got := text(tab.query(filter{}))
	led := slices.DeleteFunc(slices.Clone(got), func(r string) bool { return !strings.HasSuffix(r, " LEADER") })
	if len(got) != n || !slices.Equal(led, []string{"db/0/n000:1/dc1 LEADER"}) {
		t.Errorf("%d rows, led by %q", len(got), led)
	}
}

// ofEra returns a history of an era.
func ofEra(n uint64) origin {
	return origin{cluster: "ours", history: era.History(n, "h"), known: true}
}

// TestLaterEraLeads: a promotion is seen at once, and the masters before it never lead again.
func TestLaterEraLeads(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		c.says("s9", leader, ofEra(1), 1)
		c.leads("s9") // at once, and although m1 lives
		c.run(10 * time.Second)
		c.leads("s9")
		c.dies("s9")
		c.run(3 * time.Minute)
		c.leads("")
		l.elect(1)
		c.run(2 * time.Second)
		c.leads("")
		c.says("s9", leader, ofEra(1), 2)
		c.leads("s9")
		c.says("s8", leader, ofEra(2), 1)
		c.leads("s8")
		c.says("s9", leader, ofEra(1), 9)
		c.leads("s8")
	})
}

// records gives the database of a cast a record.
func (c *cast) records(version, era uint64) {
	c.t.Helper()
	r := &peerpb.Record{Database: "db", Version: version, Era: era, Deployment: fmt.Sprint("d", era)}
	var err error
	if version == 1 {
		_, err = c.to.Witness().ChangeRecord(c.t.Context(), &peerpb.ChangeRecordRequest{Record: r})
	} else {
		_, err = c.to.Witness().Claim(c.t.Context(), &peerpb.ClaimRequest{
			Database: "db", Era: era - 1, Version: version - 1, Promotion: r.GetDeployment(), History: "h", Fenced: true})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestRecordDecidesWhoLeads: with a record only masters of its era are shown, also under the
// next owner of the registry.
func TestRecordDecidesWhoLeads(t *testing.T) {
	play(t, func(t *testing.T, l *log, c *cast) {
		c.records(1, 0)
		c.leads("m1")
		c.says("s9", leader, ofEra(1), 1)
		c.run(5 * time.Second)
		c.leads("m1") // it claims what has not been decided
		c.records(2, 1)
		c.leads("s9")
		c.stops("s9")
		c.run(3 * time.Minute)
		c.leads("")
		l.elect(1)
		c.run(2 * time.Second)
		c.leads("")
		c.says("m2", leader, ours, 20)
		c.leads("")
		c.says("s9", leader, ofEra(1), 2)
		c.leads("s9")
		c.records(3, 2)
		c.leads("")
	})
}
