package cluster

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) transfer(at uint64, url, vBucket string) error {
	_, err := r.node(at).TransferLeader(testkit.Within(r.t, long), &serverpb.TransferLeaderRequest{NodeUrl: url, VBucket: vBucket})
	return err
}

// expectOwners fails unless these replicas lead the vBuckets.
func (r *rig) expectOwners(ids ...uint64) {
	r.t.Helper()
	var got []uint64
	for _, g := range r.groups {
		got = append(got, g.owner())
	}
	if !slices.Equal(got, ids) {
		r.t.Errorf("%v lead, not %v", got, ids)
	}
}

func TestTransferLeader(t *testing.T) {
	r := newRig(t, 3, 2)
	for _, c := range []struct {
		name    string
		at, to  uint64
		vBucket string
		want    []uint64
	}{
		{"by the leader", 1, 2, "", []uint64{2, 2}},
		{"by another, to a third", 1, 3, "", []uint64{3, 3}},
		{"by another, to itself", 2, 2, "", []uint64{2, 2}},
		{"to the one that leads", 1, 2, "", []uint64{2, 2}},
		{"one vBucket", 3, 1, "b1", []uint64{2, 1}},
		{"all, led by different ones", 3, 3, "", []uint64{3, 3}},
	} {
		if err := r.transfer(c.at, r.url(c.to), c.vBucket); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Log(c.name)
		r.expectOwners(c.want...)
	}
	if err := r.transfer(1, "", "b0"); err != nil {
		t.Fatal(err)
	}
	if got := r.groups[0].owner(); got == 3 {
		t.Error("to anybody: the leader has not changed")
	}
}

func TestTransferLeaderRefuses(t *testing.T) {
	r := newRig(t, 3, 2)
	expectError(t, r.transfer(1, "nonsense", ""), kv.Invalid, "not a Raft address")
	expectError(t, r.transfer(1, "http://127.0.0.1:1", ""), kv.NotFound, "http://127.0.0.1:1", "-listNodes")
	expectError(t, r.transfer(1, "", "b9"), kv.NotFound, `"b9"`)
	inVain := func(words ...string) {
		t.Helper()
		_, err := r.node(1).TransferLeader(testkit.Within(t, 3*retryPause), &serverpb.TransferLeaderRequest{VBucket: "b1"})
		expectError(t, err, kv.Unavailable, words...)
	}
	r.groups[1].set(func() { r.groups[1].leader = 0 })
	inVain("b1", "no leader at the moment")
	r.groups[1].set(func() { r.groups[1].leader = 2; delete(r.groups[1].records, 2) })
	inVain("b1", "member 2 leads", "gRPC address")
	r.expectOwners(1, 2)
	r.stop(1)
	expectError(t, r.transfer(3, r.url(3), "b0"), kv.Unavailable, "cannot be reached")
}

// What is not known yet of the leader is waited for.
func TestTransferLeaderWaitsForTheLeader(t *testing.T) {
	r := newRig(t, 3, 1)
	g := r.groups[0]
	record := g.records[1]
	delete(g.records, 1)
	told := time.AfterFunc(2*retryPause, func() { g.set(func() { g.records[1] = record }) })
	defer told.Stop()
	if err := r.transfer(3, r.url(3), ""); err != nil {
		t.Fatal(err)
	}
	r.expectOwners(3)
}

// A request that was handed on goes no further: two members that each take the
// other for the leader do not play ball with it.
func TestTransferLeaderIsHandedOnOnce(t *testing.T) {
	r := newRig(t, 3, 1)
	// The third asks the second, which knows by then that the first leads.
	r.groups[0].records[1] = r.groups[0].records[2]
	expectError(t, r.transfer(3, r.url(3), ""), kv.Unavailable, "the leader is changing")
	r.expectOwners(1)
	r.expect(0)
}

func TestLead(t *testing.T) {
	r := newRig(t, 3, 2)
	if err := r.node(3).Lead(testkit.Within(t, long), "b1"); err != nil {
		t.Fatal(err)
	}
	r.expectOwners(1, 3)
	if err := r.node(3).Lead(testkit.Within(t, long), "b1"); err != nil {
		t.Errorf("one that leads already: %v", err)
	}
	expectError(t, r.node(3).Lead(testkit.Within(t, long), "b9"), kv.NotFound, `"b9"`)
	// An election is waited out.
	r.groups[0].set(func() { r.groups[0].leader = 0 })
	elected := time.AfterFunc(2*retryPause, func() { r.groups[0].set(func() { r.groups[0].leader = 2 }) })
	defer elected.Stop()
	if err := r.node(3).Lead(testkit.Within(t, long), "b0"); err != nil {
		t.Fatal(err)
	}
	r.expectOwners(3, 3)
	// One without end is not.
	r.groups[0].set(func() { r.groups[0].leader = 0 })
	expectError(t, r.node(3).Lead(testkit.Within(t, 3*retryPause), "b0"), kv.Unavailable, "no leader at the moment")
}

func TestStepDown(t *testing.T) {
	r := newRig(t, 3, 3)
	r.groups[1].leader = 2
	if _, err := r.node(1).StepDown(testkit.Within(t, long), &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	r.expectOwners(2, 2, 2)
	r.expect(1)
	_, err := r.node(1).StepDown(testkit.Within(t, long), &emptypb.Empty{})
	expectError(t, err, kv.Precondition, "leads no vBucket", "-status")
	alone := newRig(t, 1, 1)
	_, err = alone.node(1).StepDown(testkit.Within(t, long), &emptypb.Empty{})
	expectError(t, err, kv.Precondition, "b0", "take over")
}

func TestSnapshot(t *testing.T) {
	r := newRig(t, 1, 2)
	snapshot := func(vBucket string) error {
		_, err := r.node(1).Snapshot(testkit.Within(t, long), &serverpb.SnapshotRequest{VBucket: vBucket})
		return err
	}
	if err := snapshot(""); err != nil {
		t.Fatal(err)
	}
	r.expect(0, "snapshot")
	r.expect(1, "snapshot")
	if err := snapshot("b1"); err != nil {
		t.Fatal(err)
	}
	r.expect(0)
	r.expect(1, "snapshot")
	expectError(t, snapshot("b2"), kv.NotFound, `no vBucket "b2"`, `"b0"`, `"b1"`)
	r.groups[1].before = func(string) error { return errCut }
	expectError(t, snapshot(""), kv.Internal, "b1", errCut.Error())
}

// A leader is moved only if that evens the load, and to a member that votes
// and answers.
func TestSurplus(t *testing.T) {
	for _, c := range []struct {
		name     string
		owners   []uint64
		reached  []uint64
		nonVoter uint64
		unheard  uint64
		moves    int // the vBucket that goes
		to       uint64
	}{
		{"leads all", []uint64{1, 1, 1, 1}, []uint64{2, 3}, 0, 0, 0, 2},
		{"to the one with the fewest", []uint64{1, 1, 1, 2}, []uint64{2, 3}, 0, 0, 0, 3},
		{"one more is no surplus", []uint64{2, 1, 3, 1}, []uint64{2, 3}, 0, 0, 0, 0},
		{"two more is", []uint64{2, 1, 1, 2}, []uint64{2, 3}, 0, 0, 1, 3},
		{"leads the fewest", []uint64{2, 2, 2, 1}, []uint64{2, 3}, 0, 0, 0, 0},
		{"leads no vBucket", []uint64{2, 2, 3, 3}, []uint64{2, 3}, 0, 0, 0, 0},
		{"the best does not answer", []uint64{1, 1, 1, 2}, []uint64{2}, 0, 0, 0, 2},
		{"no answer", []uint64{1, 1, 1, 1}, nil, 0, 0, 0, 0},
		{"the best has no vote", []uint64{1, 1, 1, 2}, []uint64{2, 3}, 3, 0, 0, 2},
		{"the registry does not answer the best", []uint64{1, 1, 1, 2}, []uint64{2, 3}, 0, 3, 0, 2},
		{"an election is under way", []uint64{1, 1, 1, 0}, []uint64{2, 3}, 0, 0, 0, 0},
	} {
		r := newRig(t, 3, len(c.owners))
		for i, owner := range c.owners {
			g := r.groups[i]
			g.leader = owner
			if p, is := g.peers[c.nonVoter]; is {
				g.peers[c.nonVoter] = replica.Peer{ID: p.ID, Address: p.Address}
			}
		}
		n := r.node(1)
		seen := make(map[uint64]sighting)
		for _, id := range c.reached {
			seen[id] = sighting{status: &serverpb.NodeStatusResponse{RegistrySilent: id == c.unheard}}
		}
		n.seen.Store(&seen)
		if _, err := n.membership(t.Context()); err != nil {
			t.Fatal(err)
		}
		l, to := n.surplus()
		if to != c.to || to != 0 && l.VBucket != r.groups[c.moves].name {
			t.Errorf("%s: %q goes to %d, not %q to %d", c.name, l.VBucket, to, r.groups[c.moves].name, c.to)
		}
	}
}

// A restore makes its node lead one vBucket after the other, which must not be moved away again
// before it is done.
func TestSurplusLeavesWhatIsRestored(t *testing.T) {
	r := newRig(t, 3, 3)
	n := r.node(1)
	n.seen.Store(&map[uint64]sighting{2: {}, 3: {}})
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.groups[0].restoring = true
	if l, to := n.surplus(); l.VBucket != r.groups[1].name || to == 0 {
		t.Errorf("%q goes to %d", l.VBucket, to)
	}
	r.groups[1].restoring, r.groups[2].restoring = true, true
	if l, to := n.surplus(); to != 0 {
		t.Errorf("%q goes to %d", l.VBucket, to)
	}
}

// TestSurplusGoesToWhoCouldLead: to offer a vBucket to a member that lags far behind, or has stopped,
// only holds up its requests, each time.
func TestSurplusGoesToWhoCouldLead(t *testing.T) {
	r := newRig(t, 3, 4)
	n := r.node(1)
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{"b0": true, "b1": true, "b2": true, "b3": true}
	for _, c := range []struct {
		two, three map[string]bool
		moves      string
		to         uint64
	}{
		{nil, nil, "b0", 2},
		{all, nil, "b0", 3},
		{all, map[string]bool{"b0": true}, "b1", 3},
		{all, all, "", 0},
	} {
		n.seen.Store(&map[uint64]sighting{2: {behind: c.two}, 3: {behind: c.three}})
		if l, to := n.surplus(); to != c.to || l.VBucket != c.moves {
			t.Errorf("2 could not lead %v, 3 could not lead %v: %q goes to %d, not %q to %d", c.two, c.three, l.VBucket, to, c.moves, c.to)
		}
	}
}

// TestSurplusLeavesAStoppingMemberAlone: it has handed over what it led, and others have not missed
// it yet.
func TestSurplusLeavesAStoppingMemberAlone(t *testing.T) {
	r := newRig(t, 2, 3)
	n := r.node(1)
	n.seen.Store(&map[uint64]sighting{2: {}})
	if _, err := n.membership(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.stop(2)
	n.spread(t.Context())
	r.expectOwners(1, 1, 1)
}

// TestLeadersLeaveANodeThatStops while it answers what it has begun.
func TestLeadersLeaveANodeThatStops(t *testing.T) {
	r := newRig(t, 2, 2)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := r.node(1).Run(ctx); err != nil {
		t.Error(err)
	}
	r.expectOwners(2, 2)
}

// TestLeadersLeaveANodeWithoutTheRegistry: what a node leads that the registry does not answer goes to
// members that it answers, as long as there is one that is no more behind than others.
func TestLeadersLeaveANodeWithoutTheRegistry(t *testing.T) {
	r := newRig(t, 4, 5)
	r.groups[4].leader = 2
	n := r.node(1)
	sees := func(silent ...uint64) {
		seen := map[uint64]sighting{}
		for _, id := range []uint64{2, 3, 4} {
			seen[id] = sighting{status: &serverpb.NodeStatusResponse{RegistrySilent: slices.Contains(silent, id)}, behind: map[string]bool{"b1": id == 4}}
		}
		n.seen.Store(&seen)
	}
	sees(2, 3, 4)
	n.handAllOver(t.Context())
	r.expectOwners(1, 1, 1, 1, 2) // in vain
	sees(2)
	n.handAllOver(t.Context())
	r.expectOwners(3, 3, 3, 4, 2)
}

// TestANodeStepsAside by itself while it has to.
func TestANodeStepsAside(t *testing.T) {
	var aside atomic.Bool
	r := newRig(t, 2, 1, func(r *rig) { r.starting = func(n *node) { n.aside = aside.Load } })
	n := r.node(1)
	n.seen.Store(&map[uint64]sighting{2: {}})
	testkit.Run(t, func(ctx context.Context) error { n.stepAside(ctx); return nil })
	time.Sleep(3 * asideInterval)
	r.expectOwners(1)
	aside.Store(true)
	testkit.Eventually(t, "the other one leads", func() bool { return r.groups[0].owner() == 2 })
}

// Moving surplus leaders ends, evenly, from whatever it begins with.
func TestSurplusSettles(t *testing.T) {
	for _, owners := range [][]uint64{
		{1, 1, 1, 1, 1, 1, 1, 1}, {2, 2, 2, 2, 1, 1, 1, 1}, {3, 1, 3, 1, 3, 3, 3, 3}, {1, 2, 3, 1, 2, 3, 1, 2},
	} {
		r := newRig(t, 3, len(owners))
		for i, owner := range owners {
			r.groups[i].leader = owner
		}
		seen := map[uint64]sighting{1: {}, 2: {}, 3: {}}
		for id := uint64(1); id <= 3; id++ {
			r.node(id).seen.Store(&seen)
			if _, err := r.node(id).membership(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		moves := 0
		for moved := true; moved && moves < 100; {
			moved = false
			for id := uint64(1); id <= 3; id++ {
				if l, to := r.node(id).surplus(); to != 0 {
					if err := l.TransferLeader(t.Context(), to); err != nil {
						t.Fatal(err)
					}
					moved = true
					moves++
				}
			}
		}
		leads := make(map[uint64]int)
		for _, g := range r.groups {
			leads[g.owner()]++
		}
		counts := slices.Sorted(maps.Values(leads))
		if !slices.Equal(counts, []int{2, 3, 3}) || moves > 6 {
			t.Errorf("%v ended as %v after %d moves", owners, leads, moves)
		}
	}
}
