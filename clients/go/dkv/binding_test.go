package dkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// otherCluster makes another cluster with the same database's name.
func otherCluster(t *testing.T, nodes, vBuckets int) *cluster {
	t.Helper()
	cl := newCluster(t, nodes, vBuckets)
	cl.id, cl.history = "other", "h2"
	return cl
}

// rows are those of a cluster's nodes.
func (c *cluster) rows() (out []*serverpb.RegionInfo) {
	for _, n := range c.nodes {
		for _, b := range c.vBuckets {
			row := &serverpb.RegionInfo{Database: "db", VBucket: b.name, NodeAddress: n.addr, ClusterID: c.idOf(b), HistoryID: c.history,
				VBuckets: uint32(len(c.vBuckets)), Status: serverpb.RegionStatus_SECONDARY_FOLLOWER}
			if b.leader == n {
				row.Status = serverpb.RegionStatus_LEADER
			}
			out = append(out, row)
		}
	}
	return out
}

// setRows makes a registry list these rows only.
func (r *registry) setRows(rows ...*serverpb.RegionInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = rows
	close(r.changed)
	r.changed = make(chan struct{})
}

// TestStaysWithItsCluster lets a registry list another cluster beside that of the
// client, and then that alone: nothing is written there, and errors say why.
func TestStaysWithItsCluster(t *testing.T) {
	for _, vBuckets := range []int{1, 4} {
		t.Run(fmt.Sprint(vBuckets, " vBuckets"), func(t *testing.T) {
			cl, other := newCluster(t, 2, 1), otherCluster(t, 3, vBuckets)
			for _, b := range other.vBuckets {
				b.term = 99
			}
			r := startRegistry(t, "127.0.0.1:0")
			r.setRows(cl.rows()...)
			c := ready(t, "discovery://"+r.addr+"/db")
			id := c.Cluster()
			if id != "c1-default" {
				t.Errorf("bound to %q", id)
			}
			r.setRows(append(other.rows(), cl.rows()...)...)
			for i := range 20 {
				must[uint64](t)(c.Put(testkit.Within(t, enough), fmt.Append(nil, i), nil))
			}
			r.setRows(other.rows()...)
			testkit.Eventually(t, "the other cluster is noticed", func() bool {
				c.learner.mu.Lock()
				defer c.learner.mu.Unlock()
				return c.learner.otherErr != nil
			})
			for _, n := range cl.nodes {
				n.stop()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := c.Put(ctx, []byte("lost"), nil)
			if !errors.Is(err, ErrOtherCluster) || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), id) {
				t.Error(err)
			}
			if got := other.pairs(); len(got) != 0 {
				t.Errorf("written to another cluster: %q", got)
			}
			// A new client uses the other cluster.
			must[uint64](t)(ready(t, "discovery://"+r.addr+"/db").Put(testkit.Within(t, enough), []byte("found"), nil))
			if got := other.pairs(); len(got) != 1 || c.Cluster() != id {
				t.Errorf("%q, bound to %s", got, c.Cluster())
			}
		})
	}
}

// TestAnotherClusterAtTheSameAddress restarts a client's node with an empty folder.
func TestAnotherClusterAtTheSameAddress(t *testing.T) {
	cl := newCluster(t, 1, 1)
	addr := cl.nodes[0].addr
	c := ready(t, addr)
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("a"), nil))
	cl.nodes[0].stop()
	other := &cluster{t: t, history: "h2", id: "other", changed: make(chan struct{}), vBuckets: newBuckets(nil, 1)}
	testkit.Eventually(t, "the address is free again", func() bool {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return false
		}
		l.Close()
		return true
	})
	n := startNode(t, other, addr) // the client may ask it from here on
	other.mu.Lock()
	other.nodes, other.vBuckets[0].leader = []*fakeNode{n}, n
	other.mu.Unlock()
	testkit.Eventually(t, "the other cluster is noticed", func() bool {
		c.learner.probeSoon()
		c.learner.mu.Lock()
		defer c.learner.mu.Unlock()
		return c.learner.otherErr != nil
	})
	var calls sync.WaitGroup
	for _, call := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := c.Put(ctx, []byte("k"), nil); return err },
		func(ctx context.Context) error { _, err := c.Get(ctx, []byte("k")); return err },
		func(ctx context.Context) error { _, err := c.Get(ctx, []byte("k"), Sequential); return err },
		func(ctx context.Context) error { _, _, err := c.Increment(ctx, []byte("k"), 1); return err },
		func(ctx context.Context) error { _, err := c.MultiPut(ctx, Pair{Key: []byte("k")}); return err },
		func(ctx context.Context) error { _, err := c.MultiGet(ctx, [][]byte{[]byte("k")}); return err },
		func(ctx context.Context) error { _, err := c.Delete(ctx, []byte("k")); return err },
		func(ctx context.Context) error {
			for _, err := range c.Iterate(ctx, Range{}) {
				return err
			}
			return nil
		},
	} {
		calls.Go(func() {
			err := call(testkit.Within(t, enough))
			if !errors.Is(err, ErrOtherCluster) || errors.Is(err, ErrOutcomeUnknown) {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := other.pairs(); len(got) != 0 || other.vBuckets[0].index() != 0 {
		t.Errorf("written to another cluster: %q", got)
	}
}

// TestWithCluster binds a client before any node has answered.
func TestWithCluster(t *testing.T) {
	cl, other := newCluster(t, 1, 1), otherCluster(t, 1, 1)
	c := ready(t, other.addrs()+","+cl.addrs(), WithCluster("c1-default"))
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	if len(other.pairs()) != 0 {
		t.Error("written to another cluster")
	}
	wrong := open(t, other.addrs(), WithCluster("c1-default"))
	if _, err := wrong.Put(testkit.Within(t, enough), []byte("k"), nil); !errors.Is(err, ErrOtherCluster) {
		t.Error(err)
	}
}

// TestNodesThatNameNoCluster checks that a client tells nodes of an earlier release apart
// by the layout that they report.
func TestNodesThatNameNoCluster(t *testing.T) {
	old, cut := newCluster(t, 2, 1), newCluster(t, 1, 4)
	old.id, cut.id = "", ""
	r := startRegistry(t, "127.0.0.1:0")
	r.setRows(old.rows()...)
	c := ready(t, "discovery://"+r.addr+"/db")
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
	r.setRows(append(cut.rows(), old.rows()...)...)
	testkit.Eventually(t, "the other layout is noticed", func() bool {
		c.learner.mu.Lock()
		defer c.learner.mu.Unlock()
		return c.learner.otherErr != nil
	})
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("l"), nil))
	if len(old.pairs()) != 2 || len(cut.pairs()) != 0 {
		t.Errorf("%q, %q", old.pairs(), cut.pairs())
	}
}

// TestBinding checks which nodes are used once a master has answered.
func TestBinding(t *testing.T) {
	b := newBinding("")
	p := func(name, id string) part { return part{name: name, cluster: id} }
	master := told("a", "", false, p("0", "c0"), p("1", "c1"))
	master.deployment = "d"
	if err := b.check(master); err != nil || !b.bind(master) {
		t.Fatal(err)
	}
	deployed := func(id string, r *report) *report { r.deployment = id; return r }
	for _, c := range []struct {
		name string
		node *report
		ok   bool
	}{
		{"the same", master, true},
		{"another member", told("b", "", false, p("0", "c0"), p("1", "c1")), true},
		{"a slave of one vBucket", told("s", "", true, p("1", "c1")), true},
		{"that is starting", told("b", "", false, p("0", ""), p("1", "")), true},
		{"of an earlier release", deployed("d", told("b", "", false, p("0", ""), p("1", ""))), true},
		{"standalone before", deployed("e", told("b", "", false, p("0", "c0"), p("1", "c1"))), true},
		{"another deployment", deployed("e", told("b", "", false, p("0", ""), p("1", ""))), false},
		{"another cluster", told("b", "", false, p("0", "x0"), p("1", "x1")), false},
		{"one vBucket of another", told("b", "", false, p("0", "c0"), p("1", "x1")), false},
		{"a slave of another", told("s", "", true, p("1", "x1")), false},
		{"fewer vBuckets", told("b", "", false, p("0", "c0")), false},
		{"more vBuckets", told("b", "", false, p("0", "c0"), p("1", "c1"), p("2", "c2")), false},
		{"in another order", told("b", "", false, p("1", "c1"), p("0", "c0")), false},
		{"a slave of another layout", told("s", "", true, p("default", "")), false},
		{"that cannot say", told("b", "", false, part{}), false},
	} {
		if err := b.check(c.node); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrOtherCluster) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestBindingToAName: the name of a cluster, which slaves do not report and promotions replace,
// decides only until the ids of the vBuckets are known.
func TestBindingToAName(t *testing.T) {
	p := func(name, id string) part { return part{name: name, cluster: id} }
	master := func(deployment string, parts ...part) *report {
		r := told(deployment, "", false, parts...)
		r.deployment = deployment
		return r
	}
	b := newBinding("d")
	slave := told("s", "", true, p("0", "c0"), p("1", "c1"))
	if err := b.check(slave); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("a slave before any master: %v", err)
	}
	first := master("d", p("0", "c0"), p("1", "c1"))
	if err := b.check(first); err != nil || !b.bind(first) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		node *report
		ok   bool
	}{
		{"a slave", slave, true},
		{"a master after a promotion", master("e", p("0", "c0"), p("1", "c1")), true},
		{"a member that is starting", master("d", p("0", ""), p("1", "")), true},
		{"a member of another cluster that is starting", master("e", p("0", ""), p("1", "")), false},
		{"a slave that is starting", told("s", "", true, p("0", ""), p("1", "")), false},
		{"a master of another cluster", master("e", p("0", "x0"), p("1", "x1")), false},
		{"a slave of another cluster", told("s", "", true, p("0", "x0"), p("1", "x1")), false},
	} {
		if err := b.check(c.node); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrOtherCluster) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
