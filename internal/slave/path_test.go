package slave

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/era"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/testkit"
)

// chained is a slave's copy as it serves others.
type chained struct {
	replica.Replica
	puller func() *Puller
}

func (c chained) Path() []string { return c.puller().Path() }

func (c chained) Status() replica.Status {
	s := c.Replica.Status()
	s.Stale = c.puller().Healthy()
	return s
}

// chainedSlave starts a slave that serves others at host:1.
func (r *rig) chainedSlave(host string, sources Sources, mode func(*Options, *follower.Options)) (*copy, *node) {
	c := r.slave(sources, mode, func(o *Options, _ *follower.Options) {
		o.Self = &serverpb.Replica{Zone: "dc1", Hostname: host, Port: 1}
	})
	return c, r.serve(host+":1", chained{c.Replica, func() *Puller { return c.Puller }})
}

func (c *copy) path(want ...string) func() bool {
	return func() bool { return slices.Equal(c.Puller.Status().Path, want) }
}

// TestPathOfAChain: each slave knows by way of which nodes its changes come, and how much of its
// lag is that of the last link.
func TestPathOfAChain(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m:1")
		m.fill("k", 100, 10)
		first, served := r.chainedSlave("s1", source.Fixed("m:1"), mode)
		second, _ := r.chainedSlave("s2", source.Fixed("s1:1"), mode)
		second.has(m)
		testkit.Eventually(t, "the first knows its path", first.path("m:1"))
		testkit.Eventually(t, "the second knows its path", second.path("s1:1", "m:1"))
		m.fill("more", 100, 10)
		second.has(m)
		testkit.Eventually(t, "the link is level", func() bool { return second.Puller.Status().Link.Lag == 0 })
		if s := second.Puller.Status(); s.Link.Age > s.Age {
			t.Errorf("the link is %v old, and the whole way %v", s.Link.Age, s.Age)
		}
		served.kill()
		testkit.Eventually(t, "the second has no path", second.path())
	})
}

// TestSlaveOfASlaveWithoutAMaster is no better than that one, which answers it on and on.
func TestSlaveOfASlaveWithoutAMaster(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m:1")
		m.put("k", "1")
		first, _ := r.chainedSlave("s1", source.Fixed("m:1"), mode)
		second, _ := r.chainedSlave("s2", source.Fixed("s1:1"), mode)
		second.has(m)
		well := func() bool { return first.Healthy() == nil && second.Healthy() == nil }
		testkit.Eventually(t, "both are well", well)
		m.kill()
		time.Sleep(time.Minute)
		if err := second.Healthy(); first.Healthy() == nil || err == nil || !strings.Contains(err.Error(), "s1:1") || !strings.Contains(err.Error(), "heard of no master") {
			t.Errorf("the first: %v; the second: %v", first.Healthy(), err)
		}
		m.revive()
		testkit.Eventually(t, "both are well again", well)
	})
}

// TestRestartWithinAChain: a slave is well for as long as it has heard of a master lately, whatever the
// slave that it follows says of itself for a moment.
func TestRestartWithinAChain(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m:1")
		m.put("k", "1")
		first, served := r.chainedSlave("s1", source.Fixed("m:1"), mode)
		second, _ := r.chainedSlave("s2", source.Fixed("s1:1"), mode)
		second.has(m)
		testkit.Eventually(t, "both are well", func() bool { return first.Healthy() == nil && second.Healthy() == nil })
		served.kill()
		m.kill()
		first.restart()
		time.Sleep(100 * time.Millisecond)
		served.revive()
		for range 100 {
			if err := second.Healthy(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		m.revive()
		for range 100 {
			if err := second.Healthy(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// A promotion moves the numbers by a gap, which is no lag: see package era.
func TestLinkLeavesOutGaps(t *testing.T) {
	p := New(Options{})
	p.status.following("m:1")
	p.status.hearsFrom("m:1", upstream{path: []string{"m:1"}, newest: era.Gap + 7})
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	if _, l := p.status.link(5, 0); l.Lag != 2 {
		t.Errorf("%d changes behind, not 2", l.Lag)
	}
}

// TestSlavesThatNameEachOther never follow each other for long, although operators have named
// them: a circle would take its own newest change for the newest.
func TestSlavesThatNameEachOther(t *testing.T) {
	modes(t, func(t *testing.T, mode func(*Options, *follower.Options)) {
		r := newRig(t)
		m := r.master("m:1")
		m.fill("k", 100, 10)
		first, _ := r.chainedSlave("s1", source.Fixed("m:1", "s3:1"), mode)
		r.chainedSlave("s2", source.Fixed("s1:1"), mode)
		third, _ := r.chainedSlave("s3", source.Fixed("s2:1"), mode)
		third.has(m)
		testkit.Eventually(t, "the chain stands", third.path("s2:1", "s1:1", "m:1"))
		m.kill()
		testkit.Eventually(t, "the circle is refused", func() bool {
			return strings.Contains(r.logs.String(), "s3:1 cannot be followed: its changes come from this node")
		})
		m.revive()
		m.fill("more", 100, 10)
		third.has(m)
		testkit.Eventually(t, "the chain stands again", third.path("s2:1", "s1:1", "m:1"))
		if p := first.Puller.Status().Path; !slices.Equal(p, []string{"m:1"}) {
			t.Errorf("the first follows by %q", p)
		}
	})
}

// TestPathUnderOtherNames: a path that grows without an end is a circle of nodes that go by
// other names than their own.
func TestPathUnderOtherNames(t *testing.T) {
	r := newRig(t)
	p := New(Options{VBucket: "default", Self: &serverpb.Replica{Hostname: "s1", Port: 1}, Pool: r.pool, State: r.follower(follower.Options{Options: r.options()})})
	s := &session{Puller: p, source: source.Source{Address: "alias:1"}}
	path := slices.Repeat([]string{"other:1"}, maxPath)
	if err := s.heardPath(&serverpb.GetChangesResponse{Path: path}); err != nil {
		t.Error(err)
	}
	if err := s.heardPath(&serverpb.GetChangesResponse{Path: append(path, "other:1")}); err == nil || !strings.Contains(err.Error(), "alias:1 cannot be followed") {
		t.Error(err)
	}
	if err := s.heardPath(&serverpb.GetChangesResponse{Path: []string{"b:1", "s1:1"}}); err == nil {
		t.Error("a circle is followed")
	}
}
