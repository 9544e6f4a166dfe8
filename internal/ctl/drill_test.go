package ctl

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/drill"
	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/ctl/options"
	"github.com/dkvdb/dkv/internal/ctl/output"
	"github.com/dkvdb/dkv/internal/timing"
)

func TestDrillPlansForALostMajority(t *testing.T) {
	a, b, c := startFake(t), startFake(t), startFake(t)
	b.id, c.id = "2", "3"
	b.lag = 4
	list := &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeName: "node1", Address: a.addr, Status: modelspb.NodeInfo_LEADER},
		2: {NodeId: 2, NodeName: "node2", Address: b.addr, Status: modelspb.NodeInfo_FOLLOWER},
		3: {NodeId: 3, NodeName: "node3", Address: c.addr, Status: modelspb.NodeInfo_FOLLOWER, NonVoting: true},
	}}
	for _, f := range []*fake{a, b, c} {
		f.role, f.cluster, f.members, f.index = "master", "c", list, 10
	}
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "2 masters have a vote, and 2 of them are a majority")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "master node2 ("+b.addr+") lacks 4 entries of the log")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "master without a vote node3")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan", "-o", "json"), `"majority":2`)
	for _, f := range []*fake{a, b, c} {
		f.mu.Lock()
		if sent := strings.Join(f.paths, " "); sent != "" {
			t.Errorf("it has sent %q", sent)
		}
		f.mu.Unlock()
	}
	expect(t, dkvctl(t, startFake(t).addr, "-drill", "lost-majority-plan"), outcome{code: exitFailed, stderr: "-a names no masters"})
	expect(t, dkvctl(t, a.addr, "-drill", "fire"), outcome{code: exitUsage, stderr: "is not a drill; there are leader-stop, follower-stop"})
}

// TestDrillLooksAgainBeforeTheFault: another drill may have begun while the user was asked.
func TestDrillLooksAgainBeforeTheFault(t *testing.T) {
	a, b, c := startFake(t), startFake(t), startFake(t)
	b.id, c.id = "2", "3"
	list := &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeName: "node1", Address: a.addr, Status: modelspb.NodeInfo_LEADER},
		2: {NodeId: 2, NodeName: "node2", Address: b.addr, Status: modelspb.NodeInfo_FOLLOWER},
		3: {NodeId: 3, NodeName: "node3", Address: c.addr, Status: modelspb.NodeInfo_FOLLOWER},
	}}
	for _, f := range []*fake{a, b, c} {
		f.role, f.cluster, f.members = "master", "c", list
	}
	s, err := newSession(&options.Options{Addrs: []string{a.addr}, Timeout: options.DefaultTimeout}, &output.Printer{W: bufio.NewWriter(io.Discard)}, streams{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := &drilling{session: s, scenario: drill.ScenarioOf("follower-stop"), cluster: observe.Take(t.Context(), s.Client, observe.Want{})}
	if d.node, err = d.scenario.Pick(d.cluster); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	a.fault = "a drill: no connection to other nodes"
	a.mu.Unlock()
	if err := d.stillAgreed(t.Context()); err == nil || !strings.Contains(err.Error(), "has a fault already: a drill: no connection to other nodes") {
		t.Errorf("the fault of another drill: %v", err)
	}
	a.mu.Lock()
	a.fault = ""
	a.mu.Unlock()
	d.node = d.cluster.Nodes[0]
	if err := d.stillAgreed(t.Context()); err == nil || !strings.Contains(err.Error(), "begin the drill again") {
		t.Errorf("the chosen node leads now: %v", err)
	}
}

// TestDrillFindsTheRegistryAgain: -a names only masters, and the registry was found by what they are
// configured with.
func TestDrillFindsTheRegistryAgain(t *testing.T) {
	master, registry := startFake(t), startFake(t)
	master.role, master.cluster = "master", "c"
	registry.role, registry.cluster, registry.id = "discovery", "r", "2"
	s, err := newSession(&options.Options{Addrs: []string{master.addr}, Timeout: options.DefaultTimeout}, &output.Printer{W: bufio.NewWriter(io.Discard)}, streams{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := &drilling{session: s, scenario: drill.ScenarioOf("registry-stop"), node: &observe.Node{Address: registry.addr, Status: &serverpb.NodeStatusResponse{Role: "discovery"}},
		request: &serverpb.InjectFaultRequest{Kind: "silent", Millis: 1000}}
	const end = "the process was killed" // what the fakes say when they are asked whether they agree
	if err := d.stillAgreed(t.Context()); err == nil || !strings.Contains(err.Error(), end) || d.node.Address != registry.addr {
		t.Errorf("%v, at %s", err, d.node.Address)
	}
}

// TestDrillOfTheRegistryThatMastersNeed: the shortest lease counts, and the timing of the registry.
func TestDrillOfTheRegistryThatMastersNeed(t *testing.T) {
	node := func(role, record, after string) *observe.Node {
		return &observe.Node{Status: &serverpb.NodeStatusResponse{Role: role, Record: record, Timing: timing.WAN.Text()},
			Report: &observe.Report{Config: map[string]string{"auto-promote-after": after}}}
	}
	d := &drilling{node: node("discovery", "", ""), cluster: &observe.Cluster{Nodes: []*observe.Node{node("master", "era 0", "6s"), node("master", "era 0", "12s"), node("slave", "era 0", "2s")}}}
	if got := d.registryLease(); got != 5*time.Second {
		t.Errorf("a lease of %s", got)
	}
	if got, err := d.timing(); err != nil || got != timing.WAN {
		t.Errorf("%v, %v", got, err)
	}
	d.cluster.Nodes = []*observe.Node{node("master", "", "0s")}
	if got := d.registryLease(); got != 0 {
		t.Errorf("masters that need none: %s", got)
	}
}

// TestDrillWhoseNodeGoesAway says that the fault has ended with the node, and what to do.
func TestDrillWhoseNodeGoesAway(t *testing.T) {
	f := startFake(t)
	s, err := newSession(&options.Options{Addrs: []string{f.addr}, Timeout: options.DefaultTimeout}, &output.Printer{W: bufio.NewWriter(io.Discard)}, streams{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := &drilling{session: s, node: &observe.Node{Address: f.addr}, request: &serverpb.InjectFaultRequest{Kind: "silent", Millis: 1000}}
	began := ""
	err = d.fault(t.Context(), func(text string) { began = text })
	if began != "this node hears and says nothing" || err == nil || !strings.Contains(err.Error(), "went away in the middle of the drill, which ends the fault") ||
		!strings.Contains(err.Error(), "the process was killed") {
		t.Errorf("%q, then %v", began, err)
	}
}
