package replica

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

// awaits waits for an index in the background.
func awaits(ctx context.Context, r Replica, index kv.Index) chan error {
	done := make(chan error, 1)
	go func() { done <- r.AwaitApplied(ctx, index) }()
	return done
}

func TestAwaitApplied(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.mustPut("a", "1")
	for index := range kv.Index(2) {
		if err := r.AwaitApplied(ctx, index); err != nil {
			t.Errorf("index %d, which is applied: %v", index, err)
		}
	}
	next, later := awaits(ctx, r, 2), awaits(ctx, r, 3)
	r.mustPut("a", "2")
	if err := <-next; err != nil {
		t.Error(err)
	}
	select {
	case err := <-later:
		t.Errorf("index 3 of 2: %v", err)
	default:
	}
	r.mustPut("a", "3")
	if err := <-later; err != nil {
		t.Error(err)
	}
	given, up := context.WithCancel(ctx)
	up()
	if err := <-awaits(given, r, 4); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A state that takes the place of another is beyond it, and whoever waits sees it.
func TestAwaitAppliedAcrossARestore(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	index := r.mustPut("a", "1")
	dir := filepath.Join(t.TempDir(), "backup")
	if err := r.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	waiting := awaits(ctx, r, index+1)
	if err := r.Restore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

func TestAwaitAppliedEndsWithTheReplica(t *testing.T) {
	r := newRig(t)
	waiting := awaits(context.Background(), r, 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-waiting, kv.Unavailable, kv.NotApplied)
}

func setSlave(address string, keep bool) *command.Command {
	return &command.Command{Kind: command.SetSlave, Flag: keep, Expect: command.Slave{Zone: "z", Address: address}.Append(nil)}
}

// The list of slaves outlives restores, and changes while writes are paused.
func TestSlavesOfALog(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	want := func(addresses ...string) {
		t.Helper()
		slaves, err := r.Slaves(ctx)
		got := []string{}
		for _, s := range slaves {
			got = append(got, s.Address)
		}
		if err != nil || !slices.Equal(got, addresses) {
			t.Errorf("slaves %q, %v; want %q", got, err, addresses)
		}
	}
	r.mustPropose(setSlave("a:1", true))
	dir := filepath.Join(t.TempDir(), "backup")
	if err := r.Backup(ctx, dir); err != nil {
		t.Fatal(err)
	}
	r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true})
	r.mustPropose(setSlave("b:1", true))
	r.mustPropose(setSlave("a:1", false))
	want("b:1")
	if err := r.Restore(ctx, dir); err != nil {
		t.Fatal(err)
	}
	want("b:1")
}

// Every member of a log of several may be followed: it wakes those who wait, knows
// the list, and tells how old what it says may be.
func TestFollowRaft(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("a", "1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var waiting []chan error
	for _, n := range c.nodes {
		waiting = append(waiting, awaits(ctx, n, index+2))
	}
	if _, err := c.owner().Propose(ctx, setSlave("a:1", true)); err != nil {
		t.Fatal(err)
	}
	c.put("a", "2")
	for i, n := range c.nodes {
		if err := <-waiting[i]; err != nil {
			t.Error(err)
		}
		if slaves, err := n.Slaves(ctx); err != nil || len(slaves) != 1 || slaves[0].Address != "a:1" {
			t.Errorf("slaves %v, %v", slaves, err)
		}
	}
	testkit.Eventually(t, "the owner has met a majority", func() bool { return c.owner().Age() < patience })
	follower := c.follower()
	testkit.Eventually(t, "a follower that has met the owner", func() bool { age := follower.Age(); return age > 0 && age < patience })
	for _, n := range c.nodes { // nobody is left to ask
		if n != follower {
			n.kill()
		}
	}
	before := follower.Age()
	testkit.Eventually(t, "an age that grows", func() bool { return follower.Age() > max(before, 50*time.Millisecond) })
}

// Looking at the age of the owner's state is neither a read by lease nor a reason to
// keep the lease; the age stays small all the same.
func TestAgeIsNoRead(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	c.want("k", "v")
	o := c.owner()
	before := o.RaftStats()
	testkit.Eventually(t, "the lease lapses while the age is asked for", func() bool {
		if age := o.Age(); age > 2*freshInterval {
			t.Errorf("the owner's state is %v old", age)
		}
		return o.RaftStats().Remaining == 0
	})
	asked := o.keeper.Confirmed()
	testkit.Eventually(t, "a later confirmation, without a lease", func() bool {
		age := o.Age()
		return age > 0 && o.clock.Now()-age > asked && !o.keeper.Held()
	})
	if n := o.RaftStats().LeaseReads - before.LeaseReads; n > 0 {
		t.Errorf("nobody has read, and %d reads by lease are counted", n)
	}
}
