package dkv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A former node that runs on, cut off, does not keep a watch from its end at the nodes that lack what
// the watch has returned.
func TestWatchEndsBesideANodeThatIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		history string
		opts    []Option
	}{
		"a promotion, fixed addresses":           {"1-p", []Option{WithFixedAddresses()}},
		"a restore, the node in the data centre": {"h2", []Option{WithDC("here")}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2, 1)
			cl.nodes[0].dc, cl.nodes[1].dc = "here", "there"
			client := ready(t, cl.addrs(), c.opts...)
			testkit.Eventually(t, "both masters have answered", func() bool { return len(client.topology.Load().masters) == 2 })
			ctx := testkit.Within(t, enough)
			w := watch(t, ctx, client, "", must[Cursor](t)(client.Position(ctx)))
			must[uint64](t)(client.Put(ctx, []byte("k"), nil))
			w.want("k")
			succeed(cl, c.history, 0)
			w.fails(ErrTrimmed)
		})
	}
}

// succeed has the second node lead in another history, which has the former one up to end. The
// first node stays in that, cut off.
func succeed(cl *cluster, history string, end uint64) {
	cl.nodes[0].alone.Store(true)
	cl.mu.Lock()
	cl.nodes[0].own, cl.history, cl.ended = cl.history, history, map[string]uint64{cl.history: end}
	cl.mu.Unlock()
	cl.lead(cl.nodes[1])
}

// Nor if the new master has all that the watch has returned and does not retain what follows.
func TestWatchEndsWhereOnlyAFormerNodeDoesNotSayTrimmed(t *testing.T) {
	for name, refuses := range map[string]bool{"it is cut off": false, "it lags": true} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t, 2, 1)
			client := ready(t, cl.addrs(), WithFixedAddresses())
			ctx := testkit.Within(t, enough)
			must[uint64](t)(ready(t, cl.addrs()).Put(ctx, []byte("k"), nil))
			if refuses {
				cl.nodes[0].fail(func(_ context.Context, method string) error {
					if method == serverpb.DKVReplication_WatchChanges_FullMethodName {
						return explained(codes.FailedPrecondition, kv.ReasonNotApplied, "change 2 is ahead")
					}
					return nil
				}, nil)
			}
			cl.mu.Lock()
			cl.nodes[1].floor = 5
			cl.mu.Unlock()
			succeed(cl, "1-p", 1)
			watch(t, ctx, client, "", Cursor{"default": {Index: 1, History: "h1"}}).fails(ErrTrimmed)
		})
	}
}

// Each node that a watch asks for its history has a time limit, and one of its own: a node that
// hangs does not use up the others'.
func TestWatchAsksWithinALimit(t *testing.T) {
	const pause = 100 * time.Millisecond
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses()) // which asks nothing else
	ends := make(chan time.Time, len(cl.nodes))
	for _, n := range cl.nodes {
		n.fail(func(ctx context.Context, _ string) error {
			end, limited := ctx.Deadline()
			if !limited {
				t.Error("a node is asked without a limit")
			}
			ends <- end
			<-time.After(pause)
			return nil
		}, nil)
	}
	f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{History: "h1"}}
	if got := f.ask(t.Context(), c.topology.Load().masters); got != "h1" {
		t.Errorf("history %q", got)
	}
	if first, second := <-ends, <-ends; second.Sub(first) < pause {
		t.Errorf("the second node has %v more than the first", second.Sub(first))
	}
}

// A cursor that was stored may be of a database that was set up again and restored from an older backup:
// its numbers are lower, and no promotion leads to it.
func TestAnotherHistoryOfTheSameEraEndsAWatch(t *testing.T) {
	cl := newCluster(t, 1, 1)
	client := ready(t, cl.addrs())
	w := watch(t, testkit.Within(t, enough), client, "", Cursor{"default": {Index: 1000, History: "another"}})
	w.fails(ErrTrimmed)
}

// A node that has the new history and is yet to receive what the watch has returned does not end it:
// only one that has come past that says that it is lost.
func TestANodeThatLagsEndsNoWatch(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses())
	must[uint64](t)(c.Put(t.Context(), []byte("k"), nil))
	succeed(cl, "1-p", 0)
	masters := c.topology.Load().masters
	n := masters[slices.IndexFunc(masters, func(n *node) bool { return n.addr == cl.nodes[1].addr })]
	refused := errorf(ErrPrecondition, "change 6 is ahead")
	f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{Index: 5, History: "h1"}}
	for range 3 {
		if !f.mayRetry(t.Context(), n, refused) {
			t.Fatal("a node that lags ends the watch")
		}
	}
	f.at.Index = 1
	if !f.mayRetry(t.Context(), n, refused) || f.mayRetry(t.Context(), n, refused) {
		t.Error("a node that has all ends the watch at its first refusal, or not at its second")
	}
}

// A former master that has not been told, and is taken for the leader while the new one is away, ends
// no watch of the new history: nothing is lost, and that comes back.
func TestAFormerMasterThatLeadsEndsNoWatch(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	refused := errorf(ErrPrecondition, "the history is h1")
	f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{Index: 1 << 41, History: "1-p"}}
	for range 3 {
		if !f.mayRetry(t.Context(), c.topology.Load().masters[0], refused) {
			t.Fatal("a node of an earlier era ends the watch")
		}
	}
}

// But a database that was set up again from nothing never comes to the era of a cursor that was stored
// before. The watch ends if its nodes have refused for so long; beside an address that is dead, at which the
// new masters may be, ten times as long.
func TestADatabaseOfAnEarlierEraEndsAWatch(t *testing.T) {
	cl := newCluster(t, 1, 1)
	for name, c := range map[string]*Client{
		"known nodes":     ready(t, cl.addrs()),
		"fixed addresses": ready(t, cl.addrs()+","+testkit.Address(t), WithFixedAddresses()),
	} {
		n := c.topology.Load().masters[0]
		refused := errorf(ErrPrecondition, "the history is h1")
		f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{Index: 1 << 41, History: "1-p"}}
		if !f.mayRetry(t.Context(), n, refused) {
			t.Errorf("%s: the first refusal ends it", name)
		}
		f.formerAt = f.formerAt.Add(-time.Hour) // in which no node was reached
		if !f.mayRetry(t.Context(), n, refused) {
			t.Errorf("%s: the time without any answer counts", name)
		}
		f.formerFor = formerWithin - 1
		if c.opts.fixed {
			if !f.mayRetry(t.Context(), n, refused) {
				t.Errorf("%s: it does not wait for the address that is dead", name)
			}
			f.formerFor = formerWithinSilence - 1
		}
		if f.mayRetry(t.Context(), n, refused) {
			t.Errorf("%s: it goes on for ever", name)
		}
	}
}

// A database that was set up again at the same addresses is not the one that a client is bound to: neither
// does the client take a position from it, nor wait there for ever.
func TestAnotherClusterEndsAWatch(t *testing.T) {
	cl := newCluster(t, 1, 1)
	c := ready(t, cl.addrs())
	n := c.topology.Load().masters[0]
	refused := errorf(ErrPrecondition, "the history is h2")
	f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{Index: 5, History: "h1"}}
	cl.mu.Lock()
	cl.id, cl.history = "c2", "h2"
	cl.mu.Unlock()
	if position, err := c.Position(testkit.Within(t, enough)); !errors.Is(err, ErrOtherCluster) {
		t.Errorf("%v, %v", position, err)
	}
	if !f.mayRetry(t.Context(), n, refused) {
		t.Error("the first refusal ends it")
	}
	f.formerFor = formerWithin - 1
	if f.mayRetry(t.Context(), n, refused) || !errors.Is(f.explain(refused), ErrOtherCluster) {
		t.Errorf("it goes on for ever, or ends with %v", f.explain(refused))
	}
	cl.mu.Lock()
	cl.id = "c1"
	cl.mu.Unlock()
	if f.mayRetry(t.Context(), n, refused); f.stranger != nil || f.formerFor != 0 {
		t.Error("a node of the client's own cluster does not count:", f.stranger)
	}
}

// A master that retains the changes and is away for a moment is waited for, as one that a promotion has just
// begun, when the others are slaves by now that retain none.
func TestWatchWaitsForTheMasterThatRetainsTheChanges(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs())
	ctx := testkit.Within(t, enough)
	for i := range 5 {
		must[uint64](t)(c.Put(ctx, fmt.Append(nil, i), nil))
	}
	testkit.Eventually(t, "both masters have answered", func() bool { return len(c.topology.Load().masters) == 2 })
	cl.mu.Lock()
	cl.nodes[0].floor = 4
	cl.mu.Unlock()
	addr := cl.nodes[1].addr
	cl.nodes[1].stop()
	w := watch(t, ctx, c, "", Cursor{"default": {}})
	time.Sleep(othersWithin / 3)
	back := startNode(t, cl, addr)
	cl.mu.Lock()
	cl.nodes[1] = back
	cl.mu.Unlock()
	for i := range 5 {
		w.want(fmt.Sprint(i))
	}
}

// A node of a registry that refuses a watch is waited at for ten minutes only while another address is silent, and not
// because one once was.
func TestSilenceThatIsOver(t *testing.T) {
	cl := newCluster(t, 2, 1)
	c := ready(t, cl.addrs(), WithFixedAddresses())
	refused := peer.FromStatus(explained(codes.Unimplemented, kv.ReasonNotApplied, "this node keeps no keys"))
	n := must[*node](t)(c.node(cl.nodes[0].addr))
	waits := func() bool {
		f := &follower{watcher: &watcher{client: c}, name: "default", at: Position{Index: 1, History: "h1"}, silent: true,
			formerFor: 2 * formerWithin, formerAt: time.Now()}
		return f.mayRetry(testkit.Within(t, enough), n, refused)
	}
	if waits() {
		t.Error("it waits although all addresses answer")
	}
	cl.nodes[1].stop()
	if !waits() {
		t.Error("it does not wait for the address that is silent")
	}
}
