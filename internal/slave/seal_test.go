package slave

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// inFolder keeps a slave's state in a folder.
func inFolder(t *testing.T) func(*Options, *follower.Options) {
	rig := replicatest.NewRig(t, func(r *replicatest.Rig) { replicatest.OnDiskAt(r, filepath.Join(t.TempDir(), "db")) })
	return func(_ *Options, o *follower.Options) {
		o.Options.Open, o.Options.Generations = rig.Opts.Open, rig.Opts.Generations
	}
}

// A sealed slave applies nothing that its master writes, also after a restart of the puller,
// says so, and goes on where it was when the promotion is given up.
func TestSealedSlaveFollowsNoMaster(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 100, 10)
	s := r.slave(source.Fixed("m1:1"), streaming, inFolder(t))
	s.has(m)
	if err := s.Puller.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	_, at := s.Position()
	m.put("a", "1")
	sealed := func() bool { return s.Puller.Status().Phase == Sealed }
	testkit.Eventually(t, "the slave shows the seal", sealed)
	s.restart()
	testkit.Eventually(t, "the slave shows the seal after a restart", sealed)
	if err := s.Puller.Healthy(); err == nil || !strings.Contains(err.Error(), "p1") {
		t.Errorf("health: %v", err)
	}
	if _, now := s.Position(); now != at {
		t.Errorf("the sealed slave went from %d to %d", at, now)
	}
	if err := s.Puller.Unseal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	s.has(m)
}

// The sealed slaves of a promotion are brought to the same index, by the one that has most.
func TestCatchUpFromASealedSlave(t *testing.T) {
	r := newRig(t)
	m := r.master("m1:1")
	m.fill("k", 100, 10)
	far, near := r.slave(source.Fixed("m1:1"), streaming, inFolder(t)), r.slave(source.Fixed("m1:1"), streaming, inFolder(t))
	far.has(m)
	near.has(m)
	if err := near.Puller.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		m.fill("more", 300, 10)
	}
	upTo := m.put("last", "1")
	far.has(m)
	if err := far.Puller.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	served := r.serve("far:1", far.Replica)
	if err := near.Puller.CatchUp(t.Context(), "p2", "far:1", upTo); err == nil {
		t.Error("another promotion changed the sealed copy")
	}
	if err := near.Puller.CatchUp(t.Context(), "p1", "far:1", upTo+1); err == nil {
		t.Error("the copy is said to be where no node is")
	}
	_, before := near.Position()
	if err := near.Puller.CatchUp(t.Context(), "p1", "far:1", upTo-2); kv.KindOf(err) != kv.Precondition {
		t.Errorf("by a node that is further, whose clock is that of another index: %v", err)
	}
	if _, at := near.Position(); at != before {
		t.Errorf("the copy is at %d instead of %d", at, before)
	}
	if err := near.Puller.CatchUp(t.Context(), "p1", "far:1", upTo); err != nil {
		t.Fatal(err)
	}
	near.has(served)
	a, errA := near.Puller.Reached(t.Context())
	b, errB := far.Puller.Reached(t.Context())
	if errA != nil || errB != nil || a.Applied != upTo || b.Applied != upTo || markOf(&a.Last) != markOf(&b.Last) || a.Sealed != "p1" {
		t.Errorf("positions %+v and %+v, %v %v", a, b, errA, errB)
	}
}
