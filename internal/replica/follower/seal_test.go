package follower

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// mustNotFollow applies what src has more, and expects the seal to reject it.
func (f *rig) mustNotFollow(src replica.Replica) {
	f.T.Helper()
	_, at := f.Position()
	c, err := src.Changes(context.Background(), at+1, 0, 1<<30)
	if err != nil {
		f.T.Fatal(err)
	}
	if err := f.Apply(context.Background(), at, c.Changes, c.Newest); !errors.Is(err, ErrSealed) {
		f.T.Error("apply:", err)
	}
	if err := f.Replace(context.Background(), true, loadFrom(src)); !errors.Is(err, ErrSealed) {
		f.T.Error("replace:", err)
	}
	if _, now := f.Position(); now != at {
		f.T.Errorf("the sealed state went from %d to %d", at, now)
	}
	if _, _, _, ok := f.Confirmable(); ok {
		f.T.Error("a sealed state may be confirmed")
	}
}

// A sealed state stays as it is, also after a restart, until the promotion is given up.
func TestSealedStateAppliesNothing(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	if err := f.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	src.MustPut("a", "2")
	f.mustNotFollow(src)
	f.again()
	f.mustNotFollow(src)
	if s := f.Replica.Status(); !strings.Contains(s.ReadOnly, "p1") {
		t.Errorf("the status does not name the promotion: %+v", s)
	}
	if err := errors.Join(f.Seal(t.Context(), "p1"), f.Unseal(t.Context(), "p1"), f.Unseal(t.Context(), "p1")); err != nil {
		t.Error("again:", err)
	}
	f.mustFollow(src)
	f.again()
	f.WantValue("a", "2")
	if by := f.Sealed(); by != "" {
		t.Errorf("sealed by %q after the end of the seal", by)
	}
}

func TestSealIsOfOnePromotion(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	replicatest.WantError(t, f.Seal(t.Context(), "p1"), kv.Precondition, kv.NotApplied) // there is nothing to promote
	f.mustReplace(src)
	if err := f.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if err := f.Seal(t.Context(), "p2"); !errors.Is(err, ErrSealed) {
		t.Errorf("seal by another promotion: %v", err)
	}
	// The other one has no seal here any more, which is all that its founder wants to know.
	if err := f.Unseal(t.Context(), "p2"); err != nil || f.Sealed() != "p1" {
		t.Errorf("unseal by another promotion: %v, sealed by %q", err, f.Sealed())
	}
	diskless := newRig(t)
	diskless.mustReplace(src)
	replicatest.WantError(t, diskless.Seal(t.Context(), "p1"), kv.Precondition, kv.NotApplied)
}

// The promotion that has sealed the state brings it up to the others, durably.
func TestCatchUpOfASealedState(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	if err := f.Seal(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	src.MustPut("a", "2")
	c, err := src.Changes(t.Context(), 2, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.CatchUp(t.Context(), "p2", 1, c.Changes, c.Newest); !errors.Is(err, ErrSealed) {
		t.Error("by another promotion:", err)
	}
	if err := f.CatchUp(t.Context(), "p1", 1, c.Changes, c.Newest); err != nil {
		t.Error(err)
	}
	f.WantValue("a", "2")
	if at, known := f.synced.reached(f.state.Machine()); !known || at != 2 {
		t.Errorf("%d is on disk", at)
	}
}

// A state confirms as on disk only what a sync has put there. What is found at the start may
// be in memory only: the process before may have been killed.
func TestOnlySyncedChangesAreConfirmedAsSynced(t *testing.T) {
	src := replicatest.RunNode(t)
	src.MustPut("a", "1")
	f := newRig(t, replicatest.OnDisk)
	f.mustReplace(src)
	begun, release := f.HoldWrites()
	defer release()
	src.MustPut("a", "2")
	f.mustFollow(src)
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	<-begun
	if history, applied, durable, ok := f.Confirmable(); !ok || history == "" || applied != 2 || durable >= 2 {
		t.Errorf("confirms %s %d, %d on disk, %v, before the sync is done", history, applied, durable, ok)
	}
	release()
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	if _, applied, durable, _ := f.Confirmable(); applied != 2 || durable != 2 {
		t.Errorf("confirms %d, %d on disk, after the sync", applied, durable)
	}
}
