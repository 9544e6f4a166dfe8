package replica

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/testkit"
)

const decade = 10 * 365 * 24 * time.Hour

// A member without a vote whose clock is ten years ahead expires nothing.
func TestMemberWithAWrongClockExpiresNothing(t *testing.T) {
	c := newCluster(t, 1)
	owner := c.owner()
	if _, err := owner.Propose(t.Context(), putUntil("session", "alive", time.Now().Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	m, err := owner.Membership(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := c.add(2, true)
	n.ahead.Store(int64(decade))
	if err := owner.Add(t.Context(), 2, n.addr, m.Version); err != nil {
		t.Fatal(err)
	}
	n.start()
	testkit.Eventually(t, "it has announced itself", func() bool { return len(owner.Members()) == 2 })
	if _, err := owner.Propose(t.Context(), putUntil("later", "alive", time.Now().Add(24*time.Hour))); err != nil {
		t.Fatal(err)
	}
	c.want("session", "alive")
	c.want("later", "alive")
	if ahead := time.Until(owner.machine.Load().Clock().Time()); ahead > time.Second || owner.Status().ExpiredTotal != 0 {
		t.Errorf("the log's clock is %v ahead, %d keys have expired", ahead, owner.Status().ExpiredTotal)
	}
}

// An owner whose clock is ten years ahead moves the log's clock no further than the
// others allow, before it has heard of them as after.
func TestOwnerWithAWrongClockExpiresNothing(t *testing.T) {
	var clocks []*clock.Clock
	c := newCluster(t, 3, func(c *cluster) {
		c.clockOf = func(n *raftNode) *clock.Clock {
			n.ahead.Store(int64(decade))
			clocks = append(clocks, clock.New(clock.Options{Member: true, Wall: n.wall}))
			return clocks[len(clocks)-1]
		}
	})
	bounded := func(when string) {
		t.Helper()
		if ahead := time.Until(c.owner().machine.Load().Clock().Time()); ahead > clock.DefaultMaxJump {
			t.Errorf("%s the log's clock is %v ahead", when, ahead)
		}
	}
	write := func(key string) {
		t.Helper()
		testkit.Eventually(t, "a put is acknowledged", func() bool {
			_, err := c.owner().Propose(t.Context(), putUntil(key, "alive", time.Now().Add(time.Hour)))
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
		n.ahead.Store(int64(decade))
	}
	owner := c.owner()
	c.put("moves", "the clock")
	if _, err := owner.Propose(t.Context(), putUntil("session", "alive", time.Now().Add(decade+time.Hour))); err != nil {
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
		n.ahead.Store(int64(decade + 2*time.Hour))
	}
	if held, err := readings["get"](owner, "session"); err != nil || held {
		t.Fatalf("before it is set back: %v, %v", held, err)
	}
	for _, n := range c.nodes {
		n.ahead.Store(int64(decade + 10*time.Minute))
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
	for name, found := range readings {
		if held, err := found(c.owner(), "session"); err != nil || !held {
			t.Errorf("%s after it was set back: %v, %v", name, held, err)
		}
	}
	for _, n := range c.nodes {
		n.wantAt(index, "session", "alive")
		if ahead := n.machine.Load().Clock().Time().Sub(n.wall()); ahead > time.Minute {
			t.Errorf("at %d the log's clock is %v ahead", n.id, ahead)
		}
	}
}

// The same for a log of one, whose node has shown what it shows no more.
func TestSetClockBackAlone(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, aheadBy(&ahead))
	r.mustPropose(putUntil("session", "alive", time.Now().Add(time.Hour)))
	r.mustPropose(&command.Command{Kind: command.SetPaused, Flag: true}) // so that nothing is removed
	ahead.Store(int64(decade))
	r.mustPropose(&command.Command{Kind: command.Tick})
	r.wantValue("session", "")
	ahead.Store(0)
	r.wantValue("session", "")
	if err := r.SetClock(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.wantValue("session", "alive")
	if held, err := readings["get"](r, "session"); err != nil || !held {
		t.Errorf("with a linearizable read: %v, %v", held, err)
	}
}

// The log's clock cannot be set far from what a majority's clocks say, or while they
// are not known.
func TestSetClockIsRefused(t *testing.T) {
	r := newRig(t, func(r *rig) { r.opts.Clock = clock.New(clock.Options{}) })
	before := r.Status().Applied
	for _, off := range []time.Duration{time.Hour, -time.Hour, decade} {
		wantError(t, r.SetClock(t.Context(), time.Now().Add(off)), kv.Invalid, kv.NotApplied)
	}
	waiting := newRig(t, func(r *rig) { r.opts.Clock = clock.New(clock.Options{Member: true}) })
	wantError(t, waiting.SetClock(t.Context(), time.Now()), kv.Unavailable, kv.NotApplied)
	if now := r.Status().Applied; now != before {
		t.Errorf("%d entries", now-before)
	}
	if err := r.SetClock(t.Context(), time.Now().Add(5*time.Second)); err != nil {
		t.Error(err)
	}
}

// A copy shows again what its master's clock does not hide any more.
func TestFollowerFollowsTheClockBack(t *testing.T) {
	src, f := newRig(t), newFollowerRig(t)
	src.mustPropose(putUntil("session", "alive", time.Now().Add(time.Hour)))
	f.mustReplace(src)
	_, at := f.Position()
	seen := func(clock time.Time) bool {
		t.Helper()
		at++
		if err := f.Apply(t.Context(), at-1, []kv.Change{{Index: at, Clock: kv.ClockOf(clock)}}, at); err != nil {
			t.Fatal(err)
		}
		_, found, _, err := f.Follower.Get(t.Context(), []byte("session"), kv.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if seen(time.Now().Add(decade)) || !seen(time.Now()) {
		t.Error("the copy does not follow the clock of the log")
	}
}
