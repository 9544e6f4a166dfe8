package cluster

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) add(at uint64, url string) error {
	_, err := r.node(at).AddNode(testkit.Within(r.t, long), &serverpb.AddNodeRequest{NodeUrl: url})
	return err
}

// expectVoters fails unless just these members vote, in all vBuckets.
func (r *rig) expectVoters(ids ...uint64) {
	r.t.Helper()
	for _, g := range r.groups {
		if got := g.voters(); !slices.Equal(got, ids) {
			r.t.Errorf("%s has the voters %v, not %v", g.name, got, ids)
		}
	}
}

// expectMember fails unless a node was invited as a replica.
func (w *waiting) expectMember(t *testing.T, id uint64) {
	t.Helper()
	<-w.done
	switch {
	case w.err != nil:
		t.Fatal(w.err)
	case w.id.Replica != id || w.id.Deployment != deployment || !w.id.Join || !w.id.NonVoting:
		t.Errorf("the node was invited as replica %d of %x, join %v, without a vote %v; want %d of %x, joining, without a vote",
			w.id.Replica, w.id.Deployment, w.id.Join, w.id.NonVoting, id, deployment)
	}
}

func TestAddNode(t *testing.T) {
	for at := uint64(1); at <= 3; at++ { // the leader and followers
		r := newRig(t, 3, 2)
		w := r.joiner(nil)
		if err := r.add(at, w.URL); err != nil {
			t.Fatal(err)
		}
		w.expectMember(t, 4)
		r.expectVoters(1, 2, 3, 4)
		r.expect(0, "record 4", "add 4", "promote 4")
		r.expect(1, "add 4", "promote 4")
		if err := r.add(at, w.URL); err != nil {
			t.Errorf("adding a member again: %v", err)
		}
		r.expect(0)
		r.expect(1)
	}
}

// Before a node is added to a log that began with an earlier state, no member may have all of
// the log that could lead: it would send the node the log without that state.
func TestAddNodeToALogThatBeganWithAState(t *testing.T) {
	r := newRig(t, 3, 2)
	r.groups[0].set(func() { r.groups[0].continues = true })
	w := r.joiner(nil)
	if err := r.add(2, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 4)
	r.expect(0, "record 4", "snapshot", "snapshot", "add 4", "promote 4") // of 1 and 3; to add is to take one
	r.expect(1, "add 4", "promote 4")

	r.stop(3) // it cannot lead without being heard of
	r.node(2).reach(testkit.Within(t, long))
	w = r.joiner(nil)
	if err := r.add(2, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expect(0, "record 5", "snapshot", "snapshot", "add 5", "promote 5") // of 1 and 4
	r.groups[0].before = func(step string) error {
		if step == "snapshot" {
			return kv.Errorf(kv.Exhausted, "no room")
		}
		return nil
	}
	r.node(2).patience = 0
	expectError(t, r.add(2, r.joiner(nil).URL), kv.Unavailable, "member 1 has to take a snapshot", "no room", "not applied")
}

// A node without a vote is not promoted before it has what the others have.
func TestAddNodeWaitsUntilItHasCaughtUp(t *testing.T) {
	r := newRig(t, 1, 2)
	w := r.joiner(nil)
	var questions atomic.Int64
	r.starting = func(n *node) {
		n.lag, n.asked = 1, func() {
			if questions.Add(1) == 3 {
				n.say(func(n *node) { n.lag = 0 })
			}
		}
	}
	for _, g := range r.groups {
		g.after = func(step string) error {
			if step == "promote 2" && questions.Load() < 3 {
				t.Errorf("promoted in %s after %d questions", g.name, questions.Load())
			}
			return nil
		}
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2)
}

// Wherever an attempt is interrupted, the next one continues, and the node keeps the
// replica id that it was given.
func TestAddNodeGoesOnWhereItWasCut(t *testing.T) {
	for _, c := range []struct {
		vBucket int
		step    string
		after   bool
	}{
		{0, "record 3", false}, {0, "record 3", true},
		{0, "add 3", false}, {0, "add 3", true},
		{1, "add 3", false}, {1, "add 3", true},
		{2, "add 3", true},
		{0, "promote 3", false}, {0, "promote 3", true},
		{1, "promote 3", false}, {2, "promote 3", true},
	} {
		r := newRig(t, 2, 3)
		w := r.joiner(func(o *bootstrap.Options) { o.Terms.VBuckets = 2 })
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
		if err := r.add(1, w.URL); err == nil || !strings.Contains(err.Error(), errCut.Error()) {
			t.Fatalf("%+v: the first attempt: %v", c, err)
		}
		if err := r.add(2, w.URL); err != nil {
			t.Fatalf("%+v: the second attempt: %v", c, err)
		}
		w.expectMember(t, 3)
		r.expectVoters(1, 2, 3)
	}
}

// A change that another one overtook is looked at again.
func TestAddNodeLooksAgain(t *testing.T) {
	r := newRig(t, 2, 2)
	w := r.joiner(nil)
	overtaken := 0
	for _, g := range r.groups {
		g.before = func(step string) error {
			if (step == "add 3" || step == "promote 3") && overtaken < 5 {
				overtaken++
				g.set(func() { g.version++ })
			}
			return nil
		}
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2, 3)
	if overtaken != 5 {
		t.Errorf("overtaken %d times", overtaken)
	}
}

// Two members that add different nodes at the same moment may choose one id: the
// log lets one of them have it, and the other takes the next.
func TestAddNodeThatLosesItsIDTakesAnother(t *testing.T) {
	r := newRig(t, 2, 2)
	w, other := r.joiner(nil), r.joiner(nil)
	address := other.URL[len("http://"):]
	r.groups[0].before = func(step string) error {
		if step == "add 3" {
			r.groups[0].set(func() {
				r.groups[0].before = func(string) error { return nil }
				r.groups[0].peers[3] = replica.Peer{ID: 3, Address: address}
				r.groups[0].version++
			})
		}
		return nil
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 4)
	r.expectVoters(1, 2, 4)
	// Which disk was to be replica 3 is written nowhere any more.
	expectError(t, r.add(2, other.URL), kv.Precondition, "replica 3", "has not announced", "-removeNode "+other.URL)
	if err := r.remove(2, other.URL, false); err != nil {
		t.Fatal(err)
	}
	if err := r.add(2, other.URL); err != nil {
		t.Fatalf("the other, again: %v", err)
	}
	other.expectMember(t, 5)
	r.expectVoters(1, 2, 4, 5)
}

// No id comes twice, be it that of a node that was removed from any vBucket, or
// one that was only reserved.
func TestAddNodeTakesAFreshID(t *testing.T) {
	r := newRig(t, 2, 2)
	r.groups[1].removed = []uint64{7}
	r.groups[0].records[8] = replica.Member{RaftAddress: "127.0.0.1:1", UUID: "another"}
	w := r.joiner(nil)
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 9)
}

// A node that was removed and whose disk was kept gets another id.
func TestAddNodeAfterRemoval(t *testing.T) {
	r := newRig(t, 2, 2)
	w := r.joiner(nil)
	r.groups[0].removed = []uint64{3}
	r.groups[0].records[3] = w.reservation(t)
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 4)
}

func TestAddNodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		url   func(t *testing.T, r *rig) string
		kind  kv.Kind
		words []string
	}{
		{"nonsense", func(*testing.T, *rig) string { return "nonsense" }, kv.Invalid, []string{"not a Raft address"}},
		{"no node there", func(t *testing.T, _ *rig) string { return reserve(t, 1)[0] }, kv.Unavailable, []string{"no answer", "is the node started"}},
		{"another cluster", func(_ *testing.T, r *rig) string {
			return r.joiner(func(o *bootstrap.Options) { o.Terms.ClusterName = "c2" }).URL
		}, kv.Precondition, []string{"nexus-cluster-name", `"c2"`, `"c1"`}},
		{"another database", func(_ *testing.T, r *rig) string {
			return r.joiner(func(o *bootstrap.Options) { o.Terms.Database = "users" }).URL
		}, kv.Precondition, []string{"database", `"users"`}},
		{"other vBuckets", func(_ *testing.T, r *rig) string {
			return r.joiner(func(o *bootstrap.Options) { o.Terms.VBuckets = 8 }).URL
		}, kv.Precondition, []string{"vbuckets", `"8"`, `"2"`}},
		{"another major version", func(_ *testing.T, r *rig) string {
			return r.joiner(func(o *bootstrap.Options) { o.Terms.Version = "v2.0.0" }).URL
		}, kv.Precondition, []string{"v2.0.0"}},
		{"an older release", func(_ *testing.T, r *rig) string {
			r.groups[1].format = 3 // any of the logs
			return r.joiner(func(o *bootstrap.Options) { o.Terms.Format = 2 }).URL
		}, kv.Precondition, []string{"understands format 2", "has format 3", "upgrade it"}},
		{"one that forms its own", func(_ *testing.T, r *rig) string {
			urls := reserve(r.t, 2)
			return r.joiner(func(o *bootstrap.Options) { o.Join, o.URL, o.Peers = false, urls[1], urls }).URL
		}, kv.Precondition, []string{"--nexus-join"}},
		{"one with another name for itself", func(_ *testing.T, r *rig) string {
			return bootstrap.FormatURL(testkit.Forward(r.t, strings.TrimPrefix(r.joiner(nil).URL, "http://")))
		}, kv.Precondition, []string{"has the url"}},
		{"a port that is not its Raft port", func(_ *testing.T, r *rig) string {
			return bootstrap.FormatURL(r.groups[0].records[2].Address)
		}, kv.Precondition, []string{"not as a node that waits to join", "its Raft address (nexus-node-url)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 3, 2)
			expectError(t, r.add(1, c.url(t, r)), c.kind, c.words...)
			r.expect(0)
			r.expect(1)
		})
	}
}

// A member that comes back without its disk is told what to do, whether it waits
// to join or to form.
func TestAddNodeRefusesALostDisk(t *testing.T) {
	for _, join := range []bool{true, false} {
		r := newRig(t, 3, 2)
		urls := []string{r.url(1), r.url(2), r.url(3)}
		r.joiner(func(o *bootstrap.Options) {
			o.URL, o.Join = r.url(3), join
			if !join {
				o.Peers = urls
			}
		})
		expectError(t, r.add(1, r.url(3)), kv.Precondition, "another disk", "-removeNode", "--nexus-join", "-addNode")
		r.expect(0)
	}
}

// A removal that was cut short is to be ended: the log takes no id twice.
func TestAddNodeInTheMiddleOfARemoval(t *testing.T) {
	r := newRig(t, 3, 2)
	g := r.groups[1]
	delete(g.peers, 3)
	g.removed = []uint64{3}
	expectError(t, r.add(1, r.url(3)), kv.Precondition, "b1", "was removed from it", "-removeNode "+r.url(3), "--nexus-join")
	r.expect(0)
	r.expect(1)
	if err := r.remove(1, r.url(3), false); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2)
}

func TestAddNodeWithoutMajority(t *testing.T) {
	r := newRig(t, 3, 2)
	w := r.joiner(nil)
	r.groups[0].set(func() { r.groups[0].minority = true })
	expectError(t, r.add(1, w.URL), kv.Unavailable, "no majority")
}

// What a member that votes has not applied is no reason to wait for it.
func TestAddNodeOfAMemberThatIsDown(t *testing.T) {
	r := newRig(t, 3, 2)
	r.stop(3)
	if err := r.add(1, r.url(3)); err != nil {
		t.Error(err)
	}
}

// A node that has not caught up in time keeps following, and the next attempt
// promotes it.
func TestAddNodeOutOfTime(t *testing.T) {
	r := newRig(t, 1, 2)
	w := r.joiner(nil)
	r.groups[0].records[2] = w.reservation(t)
	r.groups[0].applied = 200
	address := w.URL[len("http://"):]
	r.groups[0].peers[2], r.groups[1].peers[2] = replica.Peer{ID: 2, Address: address}, replica.Peer{ID: 2, Address: address}
	w.stop()
	_, err := r.node(1).AddNode(testkit.Within(t, 300*time.Millisecond), &serverpb.AddNodeRequest{NodeUrl: w.URL})
	expectError(t, err, kv.Unavailable, "has not caught up yet", "add it again")
	r.expectVoters(1)
	r.enter(w)
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 2)
	r.expectVoters(1, 2)
}

// Only one change of the membership is made at a time.
func TestChangesAreMadeOneByOne(t *testing.T) {
	r := newRig(t, 3, 1)
	r.node(1).changing <- struct{}{}
	_, err := r.node(1).AddNode(testkit.Within(t, 20*time.Millisecond), &serverpb.AddNodeRequest{NodeUrl: "http://127.0.0.1:1"})
	expectError(t, err, kv.Unavailable, "another change")
	<-r.node(1).changing
}
