package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// configured starts the process on the disk with a timing, and has it ask the others.
func (d *disk) configured(t timing.Timing) (*node, error) {
	d.r.t.Helper()
	n := d.enter()
	n.terms.Timing.Current = t
	return n, n.Confirm(testkit.Within(d.r.t, long))
}

// record has the log of the first vBucket say what the members' timing is.
func (r *rig) record(s timing.Setting) {
	r.groups[0].set(func() { r.groups[0].setting = s })
}

// A node with another timing than the cluster is refused by the others' word, and says
// which values differ and how they are changed.
func TestConfirmRefusesAnotherTiming(t *testing.T) {
	r, disks := trio(t)
	for _, c := range []struct {
		setting timing.Setting
		own     timing.Timing
		words   []string // none if it may run
	}{
		{timing.Setting{}, timing.WAN, nil},
		{timing.Setting{Current: timing.LAN, Changed: 5}, timing.LAN, nil},
		{timing.Setting{Current: timing.LAN, Changed: 6}, timing.WAN, []string{
			"this node (replica 2 at " + disks[2].url, "raft-rtt is 100ms, not 50ms", "raft-election-rtt is 50, not 20", "raft-heartbeat-rtt is 5, not 2",
			"lease-duration is 2s, not 400ms", "dkvctl -setTiming wan",
		}},
		{timing.Setting{Current: timing.LAN, Next: timing.WAN, Changed: 7}, timing.WAN, nil},
		{timing.Setting{Current: timing.LAN, Next: timing.WAN, Changed: 8}, timing.LAN, nil},
		{timing.Setting{Current: timing.WAN, Changed: 9}, timing.LAN, []string{"lease-duration is 400ms, not 2s", "dkvctl -setTiming lan"}},
	} {
		r.stop(2)
		r.record(c.setting)
		_, err := disks[2].configured(c.own)
		if errors.Is(err, ErrTiming) != (c.words != nil) || c.words == nil && err != nil {
			t.Errorf("%+v with %v: %v", c.setting, c.own, err)
		}
		for _, w := range c.words {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%v does not say %q", err, w)
			}
		}
	}
}

// A state that was left behind while the timing was changed refuses nothing: not against
// what the others tell, and not while nothing is known of them.
func TestTimingOfAStateThatIsBehind(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	r.record(timing.Setting{Current: timing.WAN, Changed: 9})
	n := disks[2].enter()
	n.terms.Timing.Current = timing.WAN
	old := timing.Setting{Current: timing.LAN, Changed: 5}
	n.rafts[0].set(func() { n.rafts[0].behind = &old })
	if err := n.judgeTiming(false); err != nil {
		t.Errorf("nothing is known yet: %v", err)
	}
	if err := n.judgeTiming(true); !errors.Is(err, ErrTiming) {
		t.Errorf("it is the newest, and %v", err)
	}
	if err := n.Confirm(testkit.Within(t, long)); err != nil {
		t.Errorf("the others know better: %v", err)
	}
}

// A member that runs with a timing which is none of the cluster's stops, whichever member
// tells it: one that came up alone has not been told before.
func TestRunEndsWithAnotherTiming(t *testing.T) {
	r, disks := trio(t)
	r.stop(2)
	n, err := disks[2].configured(timing.WAN)
	if err != nil {
		t.Fatal(err)
	}
	r.record(timing.Setting{Current: timing.LAN, Changed: 5})
	if err := n.Run(testkit.Within(t, long)); !errors.Is(err, ErrTiming) {
		t.Errorf("it ran until %v", err)
	}
}

// What an addition leaves that was interrupted is no other member, whose word would count.
func TestAReservationIsNoMember(t *testing.T) {
	r := newRig(t, 1, 1)
	n := r.node(1)
	r.groups[0].set(func() { r.groups[0].records[2] = replica.Member{RaftAddress: "127.0.0.1:1", UUID: "disk"} })
	if peers := n.lastKnown().Peers; len(peers) != 1 || !n.standsAlone() {
		t.Errorf("a node alone: %v, of the members %+v", n.standsAlone(), peers)
	}
	r.groups[0].set(func() {
		r.groups[0].records[2] = replica.Member{RaftAddress: "127.0.0.1:1", UUID: "disk", Address: "127.0.0.1:2"}
	})
	if peers := n.lastKnown().Peers; len(peers) != 2 || n.standsAlone() {
		t.Errorf("a node with another member: alone %v, of the members %+v", n.standsAlone(), peers)
	}
}

// While a change is open the members that have it before them are named.
func TestTimingFaultNamesWhoIsLeft(t *testing.T) {
	r, _ := trio(t)
	n := r.node(1)
	announce := func(id uint64, with timing.Timing) {
		for _, g := range r.groups {
			g.set(func() {
				m := g.records[id]
				m.Timing = with
				g.records[id] = m
			})
		}
	}
	n.terms.Timing.Current = timing.LAN
	for id := uint64(1); id <= 3; id++ {
		announce(id, timing.LAN)
	}
	if fault := n.TimingFault(); fault != "" {
		t.Errorf("nothing is recorded and all agree: %s", fault)
	}
	announce(3, timing.WAN)
	if fault := n.TimingFault(); !strings.Contains(fault, "member n3 with wan, this node with lan") {
		t.Errorf("members differ: %q", fault)
	}
	r.record(timing.Setting{Current: timing.LAN, Next: timing.WAN, Changed: 5})
	fault := n.TimingFault()
	if !strings.Contains(fault, "from lan to wan") || !strings.Contains(fault, "member n1 (replica 1), member n2 (replica 2)") || strings.Contains(fault, "n3") {
		t.Errorf("a change is open: %q", fault)
	}
	r.record(timing.Setting{Current: timing.WAN, Changed: 6})
	if fault := n.TimingFault(); fault != "" {
		t.Errorf("the change is over: %s", fault)
	}
}

// A node that waits with another timing is not added.
func TestAddNodeRefusesAnotherTiming(t *testing.T) {
	r := newRig(t, 3, 2)
	r.record(timing.Setting{Current: timing.LAN, Changed: 5})
	w := r.joiner(func(o *bootstrap.Options) { o.Terms.Timing.Current = timing.WAN })
	err := r.add(2, w.URL)
	if kv.KindOf(err) != kv.Precondition {
		t.Fatalf("added: %v", err)
	}
	for _, word := range []string{w.URL + " has another timing than the cluster: raft-rtt is 100ms, not 50ms", "dkvctl -setTiming wan"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
	r.expect(0)
	// While the cluster is being changed to it, it is.
	r.record(timing.Setting{Current: timing.LAN, Next: timing.WAN, Changed: 6})
	if err := r.add(2, w.URL); err != nil {
		t.Fatal(err)
	}
	w.expectMember(t, 4)
}

var _ Raft = (*raft.Replica)(nil)
