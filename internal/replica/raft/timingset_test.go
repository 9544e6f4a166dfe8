package raft

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// keepsTiming has the log keep the members' timing, which is fastTiming or, by id, what
// the map says.
func keepsTiming(c *cluster) {
	c.timing = make(map[uint64]timing.Timing)
	c.options = func(_ *node, o *Options) { o.KeepsTiming = true }
}

// slower is a timing that can take the place of fastTiming, with longer leases.
var slower = timing.Timing{RTT: 10 * time.Millisecond, Election: 30, Heartbeat: 3, Lease: 200 * time.Millisecond}

// wantTiming waits until all nodes that are up have applied a setting.
func (c *cluster) wantTiming(current, next timing.Timing) {
	c.t.Helper()
	testkit.Eventually(c.t, "the setting "+current.String()+", "+next.String(), func() bool {
		for _, n := range c.nodes {
			if n.Replica == nil {
				continue
			}
			if s := n.TimingSetting(); s.Current != current || s.Next != next {
				return false
			}
		}
		return true
	})
}

// setTiming changes the timing at the owner.
func (c *cluster) setTiming(to timing.Timing) error {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	for {
		err := c.owner().SetTiming(ctx, to)
		if k := kv.KindOf(err); k != kv.NotOwner && k != kv.Unavailable || ctx.Err() != nil {
			return err
		}
	}
}

// restartWith starts a node again with a timing.
func (n *node) restartWith(t timing.Timing) {
	n.shutdown()
	n.c.timing[n.id] = t
	n.start()
}

// The timing is changed member by member: both are recorded until the last one has made
// the change, and writes go on.
func TestTimingIsChangedMemberByMember(t *testing.T) {
	c := newCluster(t, 3, keepsTiming)
	c.wantTiming(fastTiming, timing.Timing{})
	if err := c.setTiming(slower); err != nil {
		t.Fatal(err)
	}
	c.wantTiming(fastTiming, slower)
	for _, n := range c.nodes {
		c.wantTiming(fastTiming, slower)
		n.restartWith(slower)
		c.put("k", "v")
		c.want("k", "v")
	}
	c.wantTiming(slower, timing.Timing{})
	// It is the log's: who joins or comes back without any other finds it there.
	c.nodes[0].restartWith(slower)
	c.wantTiming(slower, timing.Timing{})
	// A change that no member has made is taken back.
	for _, to := range []timing.Timing{fastTiming, slower} {
		if err := c.setTiming(to); err != nil {
			t.Fatal(err)
		}
	}
	c.wantTiming(slower, timing.Timing{})
}

// A timing that a member runs with is not taken back, and nothing else can be changed to.
func TestTimingIsNotTakenBackFromAMember(t *testing.T) {
	c := newCluster(t, 3, keepsTiming)
	c.wantTiming(fastTiming, timing.Timing{})
	if err := c.setTiming(slower); err != nil {
		t.Fatal(err)
	}
	n := c.nodes[1]
	n.restartWith(slower)
	testkit.Eventually(t, "it is announced", func() bool { return c.owner().Members()[n.id].Timing == slower })
	err := c.setTiming(fastTiming)
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "member n2") || !strings.Contains(err.Error(), "restart them with") {
		t.Errorf("refused for %v", err)
	}
	err = c.setTiming(timing.LAN)
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "member n1") || !strings.Contains(err.Error(), "member n3") {
		t.Errorf("refused for %v", err)
	}
	n.restartWith(fastTiming)
	testkit.Eventually(t, "it is announced", func() bool { return c.owner().Members()[n.id].Timing == fastTiming })
	if err := c.setTiming(fastTiming); err != nil {
		t.Fatal(err)
	}
	c.wantTiming(fastTiming, timing.Timing{})
}

// Where members have been configured differently nothing is recorded until they agree.
func TestTimingIsRecordedWhenAllAgree(t *testing.T) {
	c := newCluster(t, 3, keepsTiming, func(c *cluster) { c.timing[3] = slower })
	c.announced(3)
	err := c.setTiming(slower)
	replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	if !strings.Contains(err.Error(), "not recorded yet") {
		t.Errorf("refused for %v", err)
	}
	if s := c.owner().TimingSetting(); s.Changed != 0 {
		t.Errorf("recorded %+v", s)
	}
	c.nodes[2].restartWith(fastTiming)
	c.wantTiming(fastTiming, timing.Timing{})
}

// While a member does not understand the setting, none is recorded.
func TestTimingWaitsForTheFormat(t *testing.T) {
	formats := map[uint64]uint32{1: 3, 2: 3, 3: 2}
	c := newCluster(t, 3, keepsTiming, func(c *cluster) {
		keeps := c.options
		c.options = func(n *node, o *Options) { keeps(n, o); o.Agreed, o.Self.LogFormat = 0, formats[n.id] }
	})
	c.finish(2)
	if err := c.setTiming(slower); kv.KindOf(err) != kv.Precondition {
		t.Errorf("set: %v", err)
	}
	if s := c.owner().TimingSetting(); s.Changed != 0 {
		t.Errorf("recorded %+v", s)
	}
	c.nodes[2].shutdown()
	formats[3] = 3
	c.nodes[2].start()
	c.finish(3)
	c.wantTiming(fastTiming, timing.Timing{})
}
