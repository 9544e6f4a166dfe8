package raft

import (
	"context"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Every member of a log of several may be followed: it wakes those who wait, knows
// the list, and tells how old what it says may be.
func TestFollowRaft(t *testing.T) {
	c := newCluster(t, 3)
	index := c.put("a", "1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var waiting []chan error
	for _, n := range c.nodes {
		waiting = append(waiting, replicatest.Awaits(ctx, n, index+2))
	}
	if _, err := c.owner().Propose(ctx, replicatest.SetSlave("a:1", true)); err != nil {
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
	for _, n := range c.nodes { // no member is left to ask
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
	before := o.Stats()
	testkit.Eventually(t, "the lease lapses while the age is asked for", func() bool {
		if age := o.Age(); age > 2*freshInterval {
			t.Errorf("the owner's state is %v old", age)
		}
		return o.Stats().Remaining == 0
	})
	asked := o.keeper.Confirmed()
	testkit.Eventually(t, "a later confirmation, without a lease", func() bool {
		age := o.Age()
		return age > 0 && o.clock.Now()-age > asked && !o.keeper.Held()
	})
	if n := o.Stats().LeaseReads - before.LeaseReads; n > 0 {
		t.Errorf("nothing was read, and %d reads by lease are counted", n)
	}
}
