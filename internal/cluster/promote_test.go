package cluster

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (r *rig) addNonVoting(at uint64, url string) error {
	_, err := r.node(at).AddNode(testkit.Within(r.t, long), &serverpb.AddNodeRequest{NodeUrl: url, NonVoting: true})
	return err
}

// A node that is to have no vote gets none until it is added again with one, and
// then keeps it. In either case it is invited as one that begins without.
func TestAddNodeWithoutVote(t *testing.T) {
	r := newRig(t, 3, 2)
	w := r.joiner(nil)
	for range 2 {
		if err := r.addNonVoting(2, w.URL); err != nil {
			t.Fatal(err)
		}
		w.expectMember(t, 4)
		r.expectVoters(1, 2, 3)
	}
	r.expect(0, "record 4", "add 4")
	r.expect(1, "add 4")
	if n := r.list(1).GetNodes()[4]; !n.GetNonVoting() {
		t.Errorf("it is listed as %v", n)
	}
	if err := r.add(3, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2, 3, 4)
	r.expect(0, "promote 4")
	r.expect(1, "promote 4")
	err := r.addNonVoting(1, w.URL)
	expectError(t, err, kv.Precondition, "member 4 has a vote", "cannot be taken back", "remove the node")
	expectOutcome(t, err, kv.NotApplied)
	r.expectVoters(1, 2, 3, 4)
}

// A node that was added can be read: even one without a vote has caught up
// by the time it is added.
func TestAddNodeWithoutVoteWaitsUntilItHasCaughtUp(t *testing.T) {
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	var questions atomic.Int64
	r.starting = func(n *node) {
		n.lag, n.asked = 1, func() {
			if questions.Add(1) == 3 {
				n.say(func(n *node) { n.lag = 0 })
			}
		}
	}
	if err := r.addNonVoting(1, w.URL); err != nil {
		t.Fatal(err)
	}
	if got := questions.Load(); got < 3 {
		t.Errorf("it was added after %d questions", got)
	}
	r.expectVoters(1)
}

// That a replica had caught up once says nothing of an attempt that comes later.
func TestEachAttemptToPromoteLooksAtTheReplica(t *testing.T) {
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	joined := func() *node { return r.node(2) }
	var questions atomic.Int64
	attempts := 0
	r.groups[0].before = func(step string) error {
		if step != "promote 2" {
			return nil
		}
		if attempts++; attempts == 1 {
			// Another change is faster, and the replica falls behind meanwhile.
			joined().say(func(n *node) {
				n.lag, n.asked = 50, func() {
					if questions.Add(1) == 3 {
						n.say(func(n *node) { n.lag = 0 })
					}
				}
			})
			r.groups[0].set(func() { r.groups[0].version++ })
			return nil
		}
		if questions.Load() < 3 {
			t.Errorf("promoted after %d questions, while it was behind", questions.Load())
		}
		return nil
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2)
	if attempts != 2 {
		t.Errorf("%d attempts", attempts)
	}
}

// A replica that is silent for long is not waited for, and gets no vote.
func TestAddNodeGivesUpOnASilentReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	r.node(1).patience = 10 * time.Millisecond
	r.starting = func(n *node) { n.refusal = kv.Errorf(kv.Unavailable, "still opening") }
	begun := time.Now()
	err := r.add(1, w.URL)
	expectError(t, err, kv.Unavailable, "member 2 has not caught up yet", "add it again")
	expectOutcome(t, err, kv.Unknown)
	if time.Since(begun) > long-time.Second {
		t.Error("only the deadline ended it")
	}
	r.expectVoters(1)
}

// A replica that has stopped, though its node answers, would take the majority along with its vote.
func TestAddNodeGivesNoVoteToAReplicaThatHasStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	r.node(1).patience = 10 * time.Millisecond
	r.starting = func(n *node) { n.state = replica.Failed }
	expectError(t, r.add(1, w.URL), kv.Unavailable, "member 2 has not caught up yet", "its replica has stopped (failed)", "add it again")
	r.expectVoters(1)
}

// A replica that answers is waited for beyond the patience for silence.
func TestAddNodeWaitsForAReplicaThatAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	r.node(1).patience = 10 * time.Millisecond
	caught := make(chan struct{})
	r.starting = func(n *node) {
		n.lag = 1
		late := time.AfterFunc(catchUpRound+catchUpRound/2, func() { n.say(func(n *node) { n.lag = 0 }); close(caught) })
		t.Cleanup(func() { late.Stop() })
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	<-caught
	r.expectVoters(1, 2)
}

// A replica that has answered in a round is not silent because it does not answer at its end.
func TestAddNodeWaitsForAReplicaThatAnswersNowAndThen(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	w := r.joiner(nil)
	r.node(1).patience = 10 * time.Millisecond
	r.starting = func(n *node) {
		first := sync.OnceFunc(func() {
			n.say(func(n *node) { n.refusal = kv.Errorf(kv.Unavailable, "busy") })
			later := time.AfterFunc(catchUpRound+2*catchUpPoll, func() { n.say(func(n *node) { n.refusal, n.lag = nil, 0 }) })
			t.Cleanup(func() { later.Stop() })
		})
		n.lag, n.asked = 1, first
	}
	if err := r.add(1, w.URL); err != nil {
		t.Fatal(err)
	}
	r.expectVoters(1, 2)
}

// A step that fails for a reason that passes is tried for a while; for one that
// lasts, once.
func TestStepsAreNotRetriedForEver(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		words []string
		once  bool
	}{
		{"busy", kv.Errorf(kv.Unavailable, "busy"), []string{"given up after 30ms", "busy"}, false},
		{"refused", kv.Errorf(kv.Precondition, "never"), []string{"never"}, true},
		{"broken", errors.New("broken"), []string{"broken"}, true},
	} {
		for _, step := range []string{"add 3", "promote 3"} {
			t.Run(c.name+", "+step, func(t *testing.T) {
				r := newRig(t, 2, 1)
				w := r.joiner(nil)
				r.node(1).patience = 30 * time.Millisecond
				attempts := 0
				r.groups[0].before = func(s string) error {
					if s != step {
						return nil
					}
					attempts++
					return c.err
				}
				expectError(t, r.add(1, w.URL), kv.KindOf(c.err), c.words...)
				if c.once != (attempts == 1) {
					t.Errorf("%d attempts", attempts)
				}
				r.expectVoters(1, 2)
			})
		}
	}
}
