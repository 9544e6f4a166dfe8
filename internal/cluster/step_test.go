package cluster

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Each error says whether the change may have been made, in part or whole.
func TestOutcomes(t *testing.T) {
	busy := kv.Errorf(kv.Precondition, "refused")
	fail := func(vBucket int, at string) func(r *rig) {
		return func(r *rig) {
			r.groups[vBucket].before = func(step string) error {
				if step == at {
					return busy
				}
				return nil
			}
		}
	}
	add := func(r *rig) error { return r.add(1, r.joiner(nil).URL) }
	remove := func(r *rig) error { return r.remove(1, r.url(3), false) }
	move := func(r *rig) error { return r.transfer(1, r.url(2), "") }
	stepDown := func(r *rig) error {
		_, err := r.node(1).StepDown(testkit.Within(r.t, long), &emptypb.Empty{})
		return err
	}
	snapshot := func(r *rig) error {
		_, err := r.node(1).Snapshot(testkit.Within(r.t, long), &serverpb.SnapshotRequest{})
		return err
	}
	for _, c := range []struct {
		name  string
		setUp func(*rig)
		do    func(*rig) error
		want  kv.Outcome
	}{
		{"no node to add", func(*rig) {}, func(r *rig) error { return r.add(1, reserve(r.t, 1)[0]) }, kv.NotApplied},
		{"nonsense to add", func(*rig) {}, func(r *rig) error { return r.add(1, "nonsense") }, kv.NotApplied},
		{"not added at all", fail(0, "add 4"), add, kv.NotApplied},
		{"added to one of two", fail(1, "add 4"), add, kv.Unknown},
		{"not promoted", fail(0, "promote 4"), add, kv.Unknown},
		{"no node to remove", func(*rig) {}, func(r *rig) error { return r.remove(1, "http://127.0.0.1:1", false) }, kv.NotApplied},
		{"nonsense to remove", func(*rig) {}, func(r *rig) error { return r.remove(1, "nonsense", false) }, kv.NotApplied},
		{"no majority left", func(r *rig) { r.stop(2) }, remove, kv.NotApplied},
		{"not removed at all", fail(1, "remove 3"), remove, kv.NotApplied},
		{"removed from one of two", fail(0, "remove 3"), remove, kv.Unknown},
		{"the other member refuses", fail(1, "remove 1"), func(r *rig) error { return r.remove(1, r.url(1), false) }, kv.NotApplied},
		{"the other member fails half way", fail(0, "remove 1"), func(r *rig) error { return r.remove(1, r.url(1), false) }, kv.Unknown},
		{"not moved", fail(0, "transfer 2"), move, kv.NotApplied},
		{"one of two moved", fail(1, "transfer 2"), move, kv.Unknown},
		{"not stepped down", fail(0, "transfer 0"), stepDown, kv.NotApplied},
		{"half stepped down", fail(1, "transfer 0"), stepDown, kv.Unknown},
		{"leads nothing", func(r *rig) {
			for _, g := range r.groups {
				g.leader = 2
			}
		}, stepDown, kv.NotApplied},
		{"no snapshot", fail(0, "snapshot"), snapshot, kv.NotApplied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 3, 2)
			r.t = t
			c.setUp(r)
			expectOutcome(t, c.do(r), c.want)
		})
	}
}

// Once an attempt may have taken effect, no later one can say that nothing was done.
func TestOutcomeAfterAnUnsureAttempt(t *testing.T) {
	r := newRig(t, 3, 1)
	attempts := 0
	r.groups[0].before = func(step string) error {
		if step != "remove 3" {
			return nil
		}
		if attempts++; attempts == 1 {
			return kv.UnknownOutcome(kv.Unavailable, errors.New("no answer"))
		}
		return kv.Errorf(kv.Precondition, "refused")
	}
	err := r.remove(1, r.url(3), false)
	expectError(t, err, kv.Precondition, "refused")
	expectOutcome(t, err, kv.Unknown)
}

// A hand-over that was begun may come about behind the error.
func TestOutcomeOfAHandOver(t *testing.T) {
	r := newRig(t, 3, 1)
	r.groups[0].before = func(string) error { return kv.Errorf(kv.Unavailable, "replica 2 has not taken over in time") }
	for at := uint64(1); at <= 2; at++ { // by the leader, and by another
		err := r.transfer(at, r.url(2), "")
		expectError(t, err, kv.Unavailable, "not taken over in time")
		expectOutcome(t, err, kv.Unknown)
	}
}
