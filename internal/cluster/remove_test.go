package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/task"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) remove(at uint64, url string, force bool) error {
	_, err := r.node(at).RemoveNode(testkit.Within(r.t, long), &serverpb.RemoveNodeRequest{NodeUrl: url, Force: force})
	return err
}

func TestRemoveNode(t *testing.T) {
	for at := uint64(1); at <= 3; at++ { // the leader, a follower, itself
		r := newRig(t, 3, 2)
		if err := r.remove(at, r.url(3), false); err != nil {
			t.Fatal(err)
		}
		r.expectVoters(1, 2)
		r.expect(0, "remove 3", "forget 3")
		r.expect(1, "remove 3", "forget 3")
		expectError(t, r.remove(1, r.url(3), false), kv.NotFound, "no member", r.url(3))
	}
}

func TestRemoveNodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		members int
		down    []uint64
		gone    uint64
		force   bool
		kind    kv.Kind
		words   []string
	}{
		{"the only voter", 1, nil, 1, false, kv.Precondition, []string{"only member with a vote"}},
		{"the only voter, forced", 1, nil, 1, true, kv.Precondition, []string{"only member with a vote"}},
		{"two of three would be down", 4, []uint64{3, 4}, 2, false, kv.Precondition, []string{"3 voting members", "only 1", "-force"}},
		{"one of two would be down", 3, []uint64{3}, 2, false, kv.Precondition, []string{"2 voting members", "only 1"}},
		{"itself, and no other answers", 3, []uint64{2, 3}, 1, false, kv.Unavailable, []string{"no other member answers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.members, 2)
			r.stop(c.down...)
			expectError(t, r.remove(1, r.url(c.gone), c.force), c.kind, c.words...)
			r.expect(0)
			r.expect(1)
		})
	}
	r := newRig(t, 1, 1)
	expectError(t, r.remove(1, "nonsense", false), kv.Invalid, "not a Raft address")
	expectError(t, r.remove(1, "http://127.0.0.1:1", false), kv.NotFound, "-listNodes")
	r.groups[0].set(func() { r.groups[0].minority = true })
	expectError(t, r.remove(1, "http://127.0.0.1:1", false), kv.Unavailable, "no majority")
	expectError(t, r.remove(1, r.url(1), false), kv.Unavailable, "no majority")
}

func TestRemoveNodeAllows(t *testing.T) {
	for _, c := range []struct {
		name    string
		members int
		down    []uint64
		gone    uint64
		force   bool
	}{
		{"the one that is down", 3, []uint64{3}, 3, false},
		{"one of four while another is down", 4, []uint64{4}, 3, false},
		{"forced", 3, []uint64{3}, 2, true},
		{"itself, told by one that answers", 3, []uint64{2}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.members, 2)
			r.stop(c.down...)
			if err := r.remove(1, r.url(c.gone), c.force); err != nil {
				t.Fatal(err)
			}
			if got := len(r.groups[0].voters()); got != c.members-1 {
				t.Errorf("%d voters are left", got)
			}
		})
	}
}

// TestRemoveNodeCountsOnNoReplicaThatHasStopped: its node answers, and gives no vote.
func TestRemoveNodeCountsOnNoReplicaThatHasStopped(t *testing.T) {
	r := newRig(t, 3, 2)
	r.node(3).say(func(n *node) { n.state = replica.Failed })
	expectError(t, r.remove(1, r.url(2), false), kv.Precondition, "2 voting members", "only 1", "vBucket b0")
	r.expect(0)
	r.expect(1)
	// The other one that could remove it does; a failed one cannot.
	r.node(3).say(func(n *node) { n.state = "" })
	r.node(2).say(func(n *node) { n.state = replica.Failed })
	r.node(2).changing <- struct{}{} // a request there would wait
	if err := r.remove(1, r.url(1), true); err != nil {
		t.Fatal(err)
	}
	if err := r.remove(3, r.url(2), false); err != nil {
		t.Errorf("the one that has stopped is not removed: %v", err)
	}
	r.expectVoters(3)
}

// Two removals at the same time may each leave a majority, and both of them none.
// The log rejects the later one, which is then judged again.
func TestRemoveNodeBehindAnotherRemoval(t *testing.T) {
	for _, c := range []struct {
		name    string
		vBucket int
		down    []uint64
		force   bool
		refused bool
		left    []uint64
	}{
		{"no majority is left", 0, []uint64{4}, false, true, []uint64{1, 3, 4}},
		{"no majority is left of the second vBucket", 1, []uint64{4}, false, true, []uint64{1, 3, 4}},
		{"forced", 0, []uint64{4}, true, false, []uint64{1, 4}},
		{"all answer", 0, nil, false, false, []uint64{1, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 4, 2)
			r.stop(c.down...)
			g := r.groups[c.vBucket]
			g.before = func(step string) error {
				if step == "remove 3" {
					g.set(func() {
						if _, there := g.peers[2]; there {
							delete(g.peers, 2)
							g.version++
						}
					})
				}
				return nil
			}
			err := r.remove(1, r.url(3), c.force)
			if c.refused {
				expectError(t, err, kv.Precondition, g.name, "2 voting members", "only 1")
			} else if err != nil {
				t.Fatal(err)
			}
			if got := g.voters(); !slices.Equal(got, c.left) {
				t.Errorf("the voters are %v, not %v", got, c.left)
			}
		})
	}
}

// What is removed is the replica that was there when it was asked for, not one that
// has come to the same address since.
func TestRemoveNodeLeavesItsSuccessor(t *testing.T) {
	r := newRig(t, 4, 1)
	g := r.groups[0]
	g.before = func(step string) error {
		if step == "remove 3" {
			g.set(func() {
				g.peers[9] = replica.Peer{ID: 9, Address: g.peers[3].Address, Voting: true}
				delete(g.peers, 3)
				g.version++
			})
		}
		return nil
	}
	if err := r.remove(1, r.url(3), false); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2, 4, 9)
}

// A node without a vote may be removed whichever members are down.
func TestRemoveNodeWithoutVote(t *testing.T) {
	r := newRig(t, 3, 2)
	for _, g := range r.groups {
		g.peers[3] = replica.Peer{ID: 3, Address: g.peers[3].Address}
	}
	r.stop(2, 3)
	if err := r.remove(1, r.url(3), false); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2)
}

// A node that leads hands over before it is removed.
func TestRemoveNodeThatLeads(t *testing.T) {
	for at := uint64(1); at <= 2; at++ {
		r := newRig(t, 3, 2)
		if err := r.remove(at, r.url(1), false); err != nil {
			t.Fatal(err)
		}
		r.expectVoters(2, 3)
		r.expect(0, "transfer 0", "remove 1", "forget 1")
		r.expect(1, "transfer 0", "remove 1", "forget 1")
		if got := r.groups[0].owner(); got != 2 {
			t.Errorf("replica %d leads", got)
		}
	}
}

// One that leads and does not hand over is removed all the same.
func TestRemoveNodeThatDoesNotHandOver(t *testing.T) {
	r := newRig(t, 3, 1)
	r.stop(1)
	if err := r.remove(2, r.url(1), false); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(2, 3)
}

// Wherever a removal is interrupted, the next one continues.
// TestRemoveNodeSaysHowFarItIs: who looks sees in how many vBuckets the member is removed.
func TestRemoveNodeSaysHowFarItIs(t *testing.T) {
	r := newRig(t, 4, 3)
	var tasks task.List
	r.node(1).tasks = &tasks
	var seen []task.State
	for _, g := range r.groups {
		g.before = func(step string) error {
			if step == "remove 4" {
				seen = append(seen, tasks.Running()...)
			}
			return nil
		}
	}
	if err := r.remove(1, r.url(4), false); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || len(tasks.Running()) != 0 {
		t.Fatalf("%+v, then %+v", seen, tasks.Running())
	}
	for i, s := range seen {
		if s.Kind != task.Removal || s.Subject != r.url(4) || s.Done != uint64(i) || s.Total != 3 || s.Unit != task.VBuckets {
			t.Errorf("in vBucket %d: %+v", i, s)
		}
	}
}

func TestRemoveNodeGoesOnWhereItWasCut(t *testing.T) {
	for _, c := range []struct {
		vBucket int
		step    string
		after   bool
	}{
		{2, "remove 4", false}, {2, "remove 4", true}, {2, "forget 4", false}, {1, "remove 4", false}, {1, "remove 4", true},
		{0, "remove 4", false},
	} {
		r := newRig(t, 4, 3)
		cut := false
		hook := func(step string) error {
			if step == c.step && !cut {
				cut = true
				return errCut
			}
			return nil
		}
		if c.after {
			r.groups[c.vBucket].after = hook
		} else {
			r.groups[c.vBucket].before = hook
		}
		err := r.remove(1, r.url(4), false)
		if c.step == "forget 4" {
			if err != nil {
				t.Fatalf("%+v: a record that stays made it fail: %v", c, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), errCut.Error()) {
			t.Fatalf("%+v: the first attempt: %v", c, err)
		}
		if err := r.remove(2, r.url(4), false); err != nil {
			t.Fatalf("%+v: the second attempt: %v", c, err)
		}
		r.expectVoters(1, 2, 3)
		for _, g := range r.groups {
			if _, there := g.records[4]; there {
				t.Errorf("%+v: %s keeps the record of the removed member", c, g.name)
			}
		}
	}
}

// A change that may have been made is looked at before it is made again.
func TestRemoveNodeWithUnknownOutcome(t *testing.T) {
	r := newRig(t, 3, 1)
	unknown := 0
	r.groups[0].after = func(step string) error {
		if step == "remove 3" {
			unknown++
			return kv.UnknownOutcome(kv.Unavailable, errCut)
		}
		return nil
	}
	if err := r.remove(1, r.url(3), false); err != nil {
		t.Fatal(err)
	}
	r.expect(0, "remove 3", "forget 3")
	if unknown != 1 {
		t.Errorf("%d removals", unknown)
	}
}

// A node that was removed by one member while another one was adding it may be left in some vBuckets,
// where its address is taken until it is removed there too.
func TestRemoveNodeThatIsLeftOver(t *testing.T) {
	r := newRig(t, 3, 3)
	w := r.joiner(nil)
	left := func() {
		g := r.groups[1]
		g.set(func() { g.peers[4] = replica.Peer{ID: 4, Address: w.URL[len("http://"):]} })
		for _, g := range r.groups {
			g.set(func() { g.removed = []uint64{4} })
		}
	}
	left()
	if err := r.remove(1, w.URL, false); err != nil {
		t.Fatal(err)
	}
	r.expect(1, "remove 4")
	expectError(t, r.remove(1, w.URL, false), kv.NotFound)

	left()
	expectError(t, r.add(2, w.URL), kv.Precondition, "replica 4 is at "+w.URL[len("http://"):]+" already; remove the node first")
	if err := r.remove(2, w.URL, false); err != nil {
		t.Fatal(err)
	}
	if _, is := r.groups[1].peers[4]; is {
		t.Error("it is still there")
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2, 3, 6)
}

// A removed id is gone for good: the node may come again, as another replica.
func TestRemoveNodeAndAddItAgain(t *testing.T) {
	r := newRig(t, 3, 2)
	url := r.url(3)
	if err := r.remove(1, url, false); err != nil {
		t.Fatal(err)
	}
	w := &waiting{Options: r.joinOptions(url)}
	r.enter(w)
	if err := r.add(2, url); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 4)
	r.expectVoters(1, 2, 4)
}
