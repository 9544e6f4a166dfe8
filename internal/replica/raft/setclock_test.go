package raft

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A member without a vote whose clock is ten years ahead expires nothing.
func TestMemberWithAWrongClockExpiresNothing(t *testing.T) {
	c := newCluster(t, 1)
	owner := c.owner()
	if _, err := owner.Propose(t.Context(), replicatest.PutUntil("session", "alive", time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	m, err := owner.Membership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := c.add(2, true)
	n.ahead.Store(int64(replicatest.Decade))
	if err := owner.Add(t.Context(), 2, n.addr, m.Version); err != nil {
		t.Fatal(err)
	}
	n.start()
	testkit.Eventually(t, "it has announced itself", func() bool { return len(owner.Members()) == 2 })
	if _, err := owner.Propose(t.Context(), replicatest.PutUntil("later", "alive", time.Now().Add(24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	c.want("session", "alive")
	c.want("later", "alive")
	if ahead := time.Until(owner.state.Machine().Clock().Time()); ahead > time.Second || owner.Status().ExpiredTotal != 0 {
		t.Errorf("the log's clock is %v ahead, %d keys have expired", ahead, owner.Status().ExpiredTotal)
	}
}

// An owner whose clock is ten years ahead moves the log's clock no further than the
// others allow, before it has heard of them as after.
func TestOwnerWithAWrongClockExpiresNothing(t *testing.T) {
	var clocks []*clock.Clock
	c := newCluster(t, 3, func(c *cluster) {
		c.clockOf = func(n *node) *clock.Clock {
			n.ahead.Store(int64(replicatest.Decade))
			clocks = append(clocks, clock.New(clock.Options{Member: true, Wall: n.wall}))
			return clocks[len(clocks)-1]
		}
	})
	bounded := func(when string) {
		t.Helper()
		if ahead := time.Until(c.owner().state.Machine().Clock().Time()); ahead > clock.DefaultMaxJump {
			t.Errorf("%s the log's clock is %v ahead", when, ahead)
		}
	}
	write := func(key string) {
		t.Helper()
		testkit.Eventually(t, "a put is acknowledged", func() bool {
			_, err := c.owner().Propose(t.Context(), replicatest.PutUntil(key, "alive", time.Now().Add(time.Hour)))
			return err == nil
		})
		c.want(key, "alive")
	}
	write("first")
	bounded("before the others' clocks are known")
	for i, k := range clocks {
		k.Vote(uint64(i+1), []uint64{1, 2, 3}, func(uint64) bool { return true })
		for id := range uint64(3) {
			if at := k.Elapsed(); id != uint64(i) {
				k.Hear(id+1, time.Now(), at, at)
			}
		}
	}
	write("second")
	c.want("first", "alive")
	bounded("when they are known")
}

// A log's clock that ran ahead is set back, whatever was under way by it: what is still
// there is seen again, at the owner and at the others, at both levels.
func TestSetClockBack(t *testing.T) {
	c := newCluster(t, 3)
	for _, n := range c.nodes {
		n.ahead.Store(int64(replicatest.Decade))
	}
	owner := c.owner()
	c.put("moves", "the clock")
	if _, err := owner.Propose(t.Context(), replicatest.PutUntil("session", "alive", time.Now().Add(replicatest.Decade+time.Hour))); err != nil {
		t.Fatal(err)
	}
	pause := func(paused bool) {
		t.Helper()
		if _, err := c.owner().Propose(t.Context(), &command.Command{Kind: command.SetPaused, Flag: paused}); err != nil {
			t.Fatal(err)
		}
	}
	pause(true) // so that nothing is removed
	for _, n := range c.nodes {
		n.ahead.Store(int64(replicatest.Decade + 2*time.Hour))
	}
	if held, err := replicatest.Readings["get"](owner, "session"); err != nil || held {
		t.Fatalf("before it is set back: %v, %v", held, err)
	}
	for _, n := range c.nodes {
		n.ahead.Store(int64(replicatest.Decade + 10*time.Minute))
	}
	ctx, stop := context.WithCancel(context.Background())
	var ticking sync.WaitGroup
	defer ticking.Wait()
	defer stop()
	for range 4 {
		ticking.Go(func() {
			for ctx.Err() == nil {
				_, _ = owner.Propose(ctx, &command.Command{Kind: command.Tick})
			}
		})
	}
	if err := owner.SetClock(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	pause(false)
	index := c.put("after", "it")
	for name, found := range replicatest.Readings {
		if held, err := found(c.owner(), "session"); err != nil || !held {
			t.Errorf("%s after it was set back: %v, %v", name, held, err)
		}
	}
	for _, n := range c.nodes {
		n.wantAt(index, "session", "alive")
		if ahead := n.state.Machine().Clock().Time().Sub(n.wall()); ahead > time.Minute {
			t.Errorf("at %d the log's clock is %v ahead", n.id, ahead)
		}
	}
}
