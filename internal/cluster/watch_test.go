package cluster

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) list(at uint64) *serverpb.ListNodesResponse {
	r.t.Helper()
	out, err := r.node(at).ListNodes(testkit.Within(r.t, long), &emptypb.Empty{})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// statuses is what a list says of each member.
func statuses(list *serverpb.ListNodesResponse) map[uint64]modelspb.NodeInfo_NodeStatus {
	out := make(map[uint64]modelspb.NodeInfo_NodeStatus)
	for id, n := range list.GetNodes() {
		out[id] = n.GetStatus()
	}
	return out
}

func TestListNodes(t *testing.T) {
	r := newRig(t, 3, 2)
	for _, g := range r.groups {
		g.leader = 2
		g.peers[4] = replica.Peer{ID: 4, Address: "127.0.0.1:1"}
	}
	list := r.list(1)
	want := map[uint64]modelspb.NodeInfo_NodeStatus{
		1: modelspb.NodeInfo_FOLLOWER, 2: modelspb.NodeInfo_LEADER, 3: modelspb.NodeInfo_FOLLOWER, 4: modelspb.NodeInfo_UNKNOWN,
	}
	if got := statuses(list); list.GetLeader() != 2 || !maps.Equal(got, want) {
		t.Errorf("leader %d, %v; want 2, %v", list.GetLeader(), got, want)
	}
	n := list.GetNodes()[3]
	if n.GetNodeId() != 3 || n.GetNodeUrl() != r.url(3) || n.GetNodeName() != "n3" || n.GetAddress() != r.groups[0].records[3].Address || n.GetNonVoting() {
		t.Errorf("member 3 is listed as %v", n)
	}
	if n := list.GetNodes()[4]; !n.GetNonVoting() || n.GetNodeUrl() != "http://127.0.0.1:1" {
		t.Errorf("member 4 is listed as %v", n)
	}
}

// A member that stops is listed as such at once, and so is one that is back.
func TestListNodesTellsWhoAnswers(t *testing.T) {
	r := newRig(t, 3, 1)
	r.list(1)
	r.stop(3)
	if got := r.list(1).GetNodes()[3].GetStatus(); got != modelspb.NodeInfo_OFFLINE {
		t.Errorf("a member that is down is %v", got)
	}
	if err := r.start(r.node(3).self); err != nil {
		t.Fatal(err)
	}
	if got := r.list(1).GetNodes()[3].GetStatus(); got != modelspb.NodeInfo_FOLLOWER {
		t.Errorf("a member that is back is %v", got)
	}
}

// Without a majority there is a list without a leader, which shows that no majority has
// confirmed it.
func TestListNodesWithoutMajority(t *testing.T) {
	r := newRig(t, 3, 1)
	g := r.groups[0]
	g.peers[3] = replica.Peer{ID: 3, Address: g.peers[3].Address}
	g.minority = true
	list := r.list(1)
	if len(list.GetNodes()) != 3 || list.GetLeader() != 0 || list.GetNodes()[3].GetNodeUrl() != r.url(3) {
		t.Errorf("before a majority was ever asked: leader %d, %v", list.GetLeader(), list.GetNodes())
	}
	g.set(func() { g.minority = false })
	r.list(1)
	g.set(func() { g.minority = true; g.peers[4] = replica.Peer{ID: 4} })
	list = r.list(1)
	if len(list.GetNodes()) != 3 || list.GetLeader() != 0 || !list.GetNodes()[3].GetNonVoting() {
		t.Errorf("after: leader %d, %v", list.GetLeader(), list.GetNodes())
	}
}

// How a member is reached may have become known since a majority was asked last.
func TestListNodesWithoutMajorityTellsAddresses(t *testing.T) {
	r := newRig(t, 3, 1)
	g := r.groups[0]
	record := g.records[3]
	delete(g.records, 3)
	if n := r.list(1).GetNodes()[3]; n.GetAddress() != "" || n.GetStatus() != modelspb.NodeInfo_UNKNOWN {
		t.Errorf("before it has announced its address: %v", n)
	}
	g.set(func() { g.records[3] = record; g.minority = true })
	if n := r.list(1).GetNodes()[3]; n.GetAddress() != record.Address || n.GetStatus() != modelspb.NodeInfo_FOLLOWER {
		t.Errorf("after: %v", n)
	}
}

func TestPeers(t *testing.T) {
	r := newRig(t, 3, 1)
	n := r.node(2)
	r.stop(3)
	n.reach(testkit.Within(t, long))
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := r.groups[0]
	known := func(id uint64) Peer {
		m := g.records[id]
		return Peer{ID: id, Node: m.Name, Address: g.peers[id].Address, Voting: true, GRPC: m.Address, HTTP: m.HTTPAddress, DC: m.DC}
	}
	want := []Peer{known(1), known(3)}
	want[0].Healthy = true
	got := n.Peers()
	if got[0].Status.GetNodeId() != "1" || got[0].StatusIn("b0") == nil || got[1].StatusIn("b0") != nil {
		t.Errorf("the members said %v and %v", got[0].Status, got[1].Status)
	}
	if got[0].Status = nil; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
	if missing := n.Missing(); !reflect.DeepEqual(missing, want[1:]) {
		t.Errorf("%+v are missing", missing)
	}
	if got := n.Peers()[1].Name(); got != "3" {
		t.Errorf("member 3 is called %q", got)
	}
	// What the local state tells will do until a majority is asked.
	n = r.node(1)
	want = []Peer{known(2), known(3)}
	if got := n.Peers(); !reflect.DeepEqual(got, want) {
		t.Errorf("before a majority was asked: %+v, not %+v", got, want)
	}
	if missing := n.Missing(); missing != nil {
		t.Errorf("%+v are missing before anyone was looked for", missing)
	}
	if _, asked := n.Seen(); asked {
		t.Error("members count as seen before they were asked")
	}
}

func TestStanding(t *testing.T) {
	r := newRig(t, 3, 1)
	n, g := r.node(1), r.groups[0]
	delete(g.records, 3)
	g.removed = []uint64{9}
	g.records[9] = replica.Member{Address: "127.0.0.1:1", RaftAddress: "127.0.0.1:2"}
	g.records[8] = replica.Member{RaftAddress: "127.0.0.1:3", UUID: "reserved"}
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint64]bootstrap.Standing{
		2: bootstrap.Active, 3: bootstrap.Unknown, 8: bootstrap.Unknown, 9: bootstrap.Removed, 10: bootstrap.Unknown,
	} {
		if got := n.standing(id); got != want {
			t.Errorf("replica %d is %v, not %v", id, got, want)
		}
	}
}

// Silent are those that were there before and do not answer; neither this node,
// nor one that never came, nor one that was removed and left its record.
func TestSilent(t *testing.T) {
	r := newRig(t, 4, 1)
	n, g := r.node(1), r.groups[0]
	g.records[8] = replica.Member{RaftAddress: "127.0.0.1:3", UUID: "reserved"}
	g.records[9] = replica.Member{Address: "127.0.0.1:1", RaftAddress: "127.0.0.1:2"}
	g.removed = []uint64{9}
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop(3)
	n.reach(testkit.Within(t, long))
	if got, want := n.silent(), []bootstrap.Known{{Replica: 3, URL: r.url(3)}}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// A replica that was removed while it was down is stopped once a majority says so.
func TestAskWhetherRemoved(t *testing.T) {
	for _, c := range []struct {
		name  string
		setUp func(r *rig)
		out   bool
	}{
		{"still a member", func(*rig) {}, false},
		{"removed", func(r *rig) { delete(r.groups[0].peers, 3) }, true},
		{"removed, one of the others is down", func(r *rig) { delete(r.groups[0].peers, 3); r.stop(1) }, true},
		{"removed before it had anything of the log", func(r *rig) {
			delete(r.groups[0].peers, 3)
			if err := r.node(3).self.SetAddresses(r.node(1).addresses()); err != nil {
				t.Fatal(err)
			}
			clear(r.groups[0].records)
		}, true},
		{"no majority to say so", func(r *rig) { delete(r.groups[0].peers, 3); r.groups[0].minority = true }, false},
		{"no leader", func(r *rig) { delete(r.groups[0].peers, 3); r.groups[0].leader = 0 }, false},
		{"no answer", func(r *rig) { delete(r.groups[0].peers, 3); r.stop(1, 2) }, false},
		{"their addresses are another cluster's now", func(r *rig) {
			delete(r.groups[0].peers, 3)
			for id := uint64(1); id <= 2; id++ {
				r.node(id).say(func(n *node) { n.cluster = "0000000000000bad" })
			}
		}, false},
	} {
		r := newRig(t, 3, 2)
		c.setUp(r)
		r.node(3).askWhetherRemoved(testkit.Within(t, long))
		for _, raft := range r.node(3).rafts {
			if got := raft.putOut() > 0; got != c.out {
				t.Errorf("%s: stopped in %s: %v", c.name, raft.name, got)
			}
		}
	}
}

// Fit to lead are those that answer and lack little of what this node leads.
func TestFit(t *testing.T) {
	r := newRig(t, 4, 2)
	for _, g := range r.groups {
		g.applied = 10 * closeBehind
	}
	r.groups[1].leader = 2
	n := r.node(1)
	expect := func(when string, vBucket int, want ...uint64) {
		t.Helper()
		var got []uint64
		for id := uint64(2); id <= 5; id++ {
			if n.rafts[vBucket].fit(id) {
				got = append(got, id)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s, %v are fit to lead %s, not %v", when, got, r.groups[vBucket].name, want)
		}
	}
	expect("before anybody was asked", 0)
	r.node(2).say(func(n *node) { n.lag = closeBehind })
	r.node(3).say(func(n *node) { n.lag = closeBehind + 1 })
	r.node(4).say(func(n *node) { n.refusal = kv.Errorf(kv.Unavailable, "still opening") })
	n.reach(testkit.Within(t, long))
	expect("of all", 0, 2)
	expect("where another one leads", 1, 2, 3)
	r.node(3).say(func(n *node) { n.lag = 0 })
	r.stop(2)
	n.reach(testkit.Within(t, long))
	expect("when one is down and one has caught up", 0, 3)
	r.node(3).say(func(n *node) { n.state = replica.Failed })
	n.reach(testkit.Within(t, long))
	expect("when the replicas of the other one have stopped", 0)
	expect("when the replicas of the other one have stopped", 1)
	if !n.answers(4) || n.answers(2) {
		t.Errorf("4, which refuses, answers: %v; 2, which is down: %v", n.answers(4), n.answers(2))
	}
}

// run runs a node's Cluster until the test ends or stop is called.
func (n *node) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// A replica without a vote takes who led last for the leader for ever: what counts
// is that no majority answers it.
func TestRunIsPutOutWithALeaderInMind(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 1)
	n := r.node(3)
	n.run(t)
	r.groups[0].set(func() { delete(r.groups[0].peers, 3) })
	n.rafts[0].cut.Store(true)
	testkit.Eventually(t, "it is stopped", func() bool { return n.rafts[0].putOut() > 0 })
}

// A running Cluster keeps what is known of the members true, and puts its replicas
// out once it is no member.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 2)
	n := r.node(3)
	stop := n.run(t)
	healthy := func(want ...bool) func() bool {
		return func() bool {
			var got []bool
			for _, p := range n.Peers() {
				got = append(got, p.Healthy)
			}
			return slices.Equal(got, want)
		}
	}
	testkit.Eventually(t, "all answer", healthy(true, true))
	r.stop(2)
	testkit.Eventually(t, "one does not", healthy(true, false))
	// From here on the node itself hears of no leader, as one that is cut off.
	g := r.groups[0]
	g.set(func() { delete(g.peers, 3) })
	n.rafts[0].deaf.Store(true)
	testkit.Eventually(t, "it is stopped", func() bool { return n.rafts[0].putOut() > 0 && n.rafts[1].putOut() > 0 })
	stop()
}

// What the members say to lead is passed on: a replica that takes no part in its log
// has no other way to know. What stands at their addresses and is of another cluster
// says nothing.
func TestRunPassesOnWhoLeads(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 2)
	r.groups[1].set(func() { r.groups[1].leader = 2 })
	n := r.node(3)
	n.run(t)
	heard := func(vBucket int, want uint64) func() bool {
		return func() bool {
			id, term := n.rafts[vBucket].lastHeard()
			return id == want && term == ledTerm
		}
	}
	testkit.Eventually(t, "the leaders are known", func() bool { return heard(0, 1)() && heard(1, 2)() })
	r.node(1).say(func(n *node) { n.cluster = "another" })
	r.groups[0].set(func() { r.groups[0].leader = 2 })
	testkit.Eventually(t, "the next leader is known", heard(0, 2))
	r.groups[0].set(func() { r.groups[0].leader = 1 })
	r.groups[1].set(func() { r.groups[1].leader = 1 })
	n.reach(testkit.Within(t, long))
	if id, _ := n.rafts[0].lastHeard(); id != 2 {
		t.Errorf("a node of another cluster counts as leader %d", id)
	}
}

// A member that comes back without its disk is rejected by the others.
func TestRunTurnsAwayLostDisks(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, 1)
	r.stop(3)
	r.node(1).run(t)
	w := &waiting{Options: r.joinOptions(r.url(3))}
	w.Join, w.Peers = false, []string{r.url(1), r.url(2), r.url(3)}
	// The others' Raft ports do not answer here: it waits for its founder.
	r.enter(w)
	<-w.done
	if !errors.Is(w.err, bootstrap.ErrRejected) {
		t.Errorf("it ended with %v", w.err)
	}
}

// The founder invites those of the list that come later.
func TestRunInvites(t *testing.T) {
	t.Parallel()
	urls := reserve(t, 2)
	founder, err := bootstrap.Enter(testkit.Within(t, long), bootstrap.Options{Dir: t.TempDir(), URL: urls[0], Peers: urls, Terms: terms})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 1, 1)
	if err := r.start(founder); err != nil {
		t.Fatal(err)
	}
	r.node(1).run(t)
	w := &waiting{Options: r.joinOptions(urls[1])}
	w.Join, w.Peers = false, urls
	r.enter(w)
	<-w.done
	if w.err != nil || w.id.Replica != 2 || w.id.Deployment != founder.Deployment {
		t.Errorf("%+v, %v", w.id, w.err)
	}
}

// A member that only another vBucket's log names yet keeps its connections: requests are
// forwarded to it. Those to a removed member are closed.
func TestConnectionsOfMembersStay(t *testing.T) {
	r := newRig(t, 3, 2)
	n := r.node(1)
	connections := make(map[uint64]*peer.Peer)
	for _, id := range []uint64{2, 3} {
		p, err := n.pool.Peer(r.node(id).server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		connections[id] = p
	}
	r.groups[0].set(func() { delete(r.groups[0].records, 2) })
	n.mu.Lock()
	n.known.Removed = []uint64{3}
	n.mu.Unlock()
	n.reach(t.Context())
	for id, want := range map[uint64]bool{2: true, 3: false} {
		p, err := n.pool.Peer(r.node(id).server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if stays := p == connections[id]; stays != want {
			t.Errorf("the connections to member %d stay: %v, want %v", id, stays, want)
		}
	}
}
