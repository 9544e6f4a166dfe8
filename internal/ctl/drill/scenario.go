package drill

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/observe"
	"github.com/dkvdb/dkv/internal/timing"
)

// Scenario is a drill that gives one node a fault.
type Scenario struct {
	// Name is what the user types, Fault the kind of fault that the node is asked for.
	Name, Fault string
	// Slow: the fault takes a delay.
	Slow bool
	// pick chooses the node, and text says what is done to it.
	pick func(c *observe.Cluster) (*observe.Node, error)
	text string
	// still reports whether a node is what the scenario is about; nil if its role says so.
	still func(n *observe.Node) bool
	// promise is what the drill is judged by.
	promise func(t Terms) Promise
}

// Promise is what clients are told to expect.
type Promise struct {
	Text string
	// Keys is how long writes and linearizable reads may fail at most.
	Keys time.Duration
	// Slave is by how much reads at the slave with the fault may lag; 0 is not judged.
	Slave time.Duration
}

// Terms are what promises depend on.
type Terms struct {
	timing.Timing
	// Delay is that of a slow disk, Limit how long a client waits for an answer.
	Delay, Limit time.Duration
	// Registry is how long the lease of the registry lasts without which masters answer nothing;
	// 0 if they need none.
	Registry time.Duration
}

// LostMajorityPlan is the drill that changes nothing.
const LostMajorityPlan = "lost-majority-plan"

const (
	// clients is how long a client may take to find another leader.
	clients = time.Second
	// slaveSwitch is how long a slave may take to follow another master.
	slaveSwitch = 3 * time.Second
)

// Scenarios are all drills that give a node a fault.
func Scenarios() []*Scenario {
	return []*Scenario{
		{Name: "leader-stop", Fault: "silent", pick: leader, still: leads, promise: election,
			text: "the leader hears and says nothing, as if its host were paused"},
		{Name: "follower-stop", Fault: "silent", pick: follower, still: follows, promise: noElection("one follower is not missed: a majority is left, and the leader stays"),
			text: "a follower hears and says nothing, as if its host were paused"},
		{Name: "slave-switch", Fault: "unreachable", pick: slave, promise: switching,
			text: "a slave cannot reach the master that it follows"},
		{Name: "partition", Fault: "partition", pick: leader, still: leads, promise: election,
			text: "the leader and the other nodes do not reach each other; clients still reach it"},
		{Name: "slow-disk", Fault: "slow-disk", Slow: true, pick: leader, still: leads, promise: slowDisk,
			text: "each sync of the leader's Raft log takes longer"},
		{Name: "registry-stop", Fault: "silent", pick: registry, promise: registryLost,
			text: "a node of the registry hears and says nothing"},
	}
}

// ScenarioOf returns the scenario with a name; nil for none.
func ScenarioOf(name string) *Scenario {
	all := Scenarios()
	if i := slices.IndexFunc(all, func(s *Scenario) bool { return s.Name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// Names are the drills that there are.
func Names() []string {
	var out []string
	for _, s := range Scenarios() {
		out = append(out, s.Name)
	}
	return append(out, LostMajorityPlan)
}

// Pick returns the node that the scenario is about.
func (s *Scenario) Pick(c *observe.Cluster) (*observe.Node, error) { return s.pick(c) }

// Again looks for the node that was picked in what the cluster has become, and returns an error
// if that node is not what the scenario is about any more.
func (s *Scenario) Again(c *observe.Cluster, picked *observe.Node) (*observe.Node, error) {
	if _, err := s.pick(c); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(c.Nodes, func(n *observe.Node) bool { return n.Address == picked.Address })
	if at < 0 {
		return nil, fmt.Errorf("%s is not among the nodes any more: begin the drill again", picked.Name())
	}
	n := c.Nodes[at]
	if n.Status == nil {
		return nil, fmt.Errorf("%s does not answer: %w", n.Name(), n.Err)
	}
	if n.Role() != picked.Role() || s.still != nil && !s.still(n) {
		return nil, fmt.Errorf("since the drill chose %s, leadership or its role has changed, so that it is not the node that %s is about: begin the drill again", n.Name(), s.Name)
	}
	return n, nil
}

// Says says what will be done to a node.
func (s *Scenario) Says(n *observe.Node, lasts, delay time.Duration) string {
	text := fmt.Sprintf("%s: %s, for %s: %s", s.Name, n.Name(), lasts, s.text)
	if s.Slow {
		text += fmt.Sprintf(", by %s", delay)
	}
	return text
}

// Promise returns what the drill is judged by, from the cluster's timing.
func (s *Scenario) Promise(t Terms) Promise { return s.promise(t) }

// election is the promise for a leader that is lost.
func election(t Terms) Promise {
	p := Promise{Keys: 4*t.ElectionTime() + t.Lease + t.Limit + clients}
	p.Text = fmt.Sprintf("writes and linearizable reads succeed again within %s: up to two elections of up to twice raft-election-rtt (%s) each, "+
		"the lease (%s) that the next leader waits out, %s that a client waits for the lost leader, and %s until it finds the next one", p.Keys, t.ElectionTime(), t.Lease, t.Limit, clients)
	return p
}

// noElection is the promise for a node that is not missed.
func noElection(why string) func(Terms) Promise {
	return func(t Terms) Promise {
		p := Promise{Keys: t.ElectionTime()}
		p.Text = fmt.Sprintf("%s. Writes and linearizable reads go on without a gap of an election's time (%s)", why, p.Keys)
		return p
	}
}

// registryLost is the promise for a node of the registry that may lead it. Masters that need its
// lease have three quarters of that left at least; a new leader takes up to two elections and the
// lease of the lost one, and the masters find it after a wait for the lost one and a pause, each
// of up to a quarter of the registry's lease.
func registryLost(t Terms) Promise {
	p := noElection("keys do not depend on the registry: nodes and clients go by what they know")(t)
	wait := 4*t.ElectionTime() + t.Lease + clients - t.Registry/4
	if t.Registry == 0 || wait <= p.Keys {
		return p
	}
	p.Keys = wait
	p.Text = fmt.Sprintf("masters answer only while they have the registry's lease (%s, by auto-promote-after), and the registry has a leader again after up to two elections. "+
		"Writes and linearizable reads succeed again within %s: twice twice raft-election-rtt (%s), its leader's lease (%s) and %s for clients, less a quarter of the registry's lease", t.Registry, p.Keys, t.ElectionTime(), t.Lease, clients)
	return p
}

// slowDisk is the promise for a leader with a slow disk: it stays the leader.
func slowDisk(t Terms) Promise {
	p := Promise{Keys: t.ElectionTime() + 4*t.Delay}
	p.Text = fmt.Sprintf("writes take longer and do not fail, and the leader stays: no gap of an election's time (%s) and four syncs (%s)", t.ElectionTime(), t.Delay)
	return p
}

func switching(t Terms) Promise {
	p := Promise{Keys: t.ElectionTime(), Slave: slaveSwitch}
	p.Text = fmt.Sprintf("the slave follows another master, so that its reads are never more than %s out of date; masters notice nothing (no gap of %s)", p.Slave, p.Keys)
	return p
}

// leader is the master that leads the first vBucket.
func leader(c *observe.Cluster) (*observe.Node, error) {
	if err := several(c); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if n.Role() == observe.Master && leads(n) {
			return n, nil
		}
	}
	return nil, errors.New("no master says that it leads the first vBucket: see dkvctl -status")
}

func leads(n *observe.Node) bool {
	v := n.Status.GetVBuckets()
	return len(v) > 0 && v[0].GetIsLeader()
}

// follows reports whether a node does not lead the first vBucket, and has a vote.
func follows(n *observe.Node) bool { return n.Voter() && !leads(n) }

// follower is a master with a vote that does not lead the first vBucket, and leads few others.
func follower(c *observe.Cluster) (*observe.Node, error) {
	if err := several(c); err != nil {
		return nil, err
	}
	var best *observe.Node
	led := func(n *observe.Node) (count int) {
		for _, v := range n.Status.GetVBuckets() {
			if v.GetIsLeader() {
				count++
			}
		}
		return count
	}
	for _, n := range c.Nodes {
		if n.Role() == observe.Master && n.Status != nil && follows(n) && (best == nil || led(n) < led(best)) {
			best = n
		}
	}
	if best == nil {
		return nil, errors.New("no master with a vote follows another one: see dkvctl -listNodes")
	}
	return best, nil
}

// several returns an error if the cluster would lose its majority with one master.
func several(c *observe.Cluster) error {
	voters := 0
	for _, n := range c.Nodes {
		if n.Role() == observe.Master && n.Voter() {
			voters++
		}
	}
	if voters < 3 {
		return fmt.Errorf("the cluster has %d masters with a vote, and would lose its majority with one of them: a drill needs three", voters)
	}
	return nil
}

func slave(c *observe.Cluster) (*observe.Node, error) {
	for _, n := range c.Nodes {
		if n.Role() == observe.Slave && n.Status != nil {
			return n, several(c)
		}
	}
	return nil, errors.New("no slave answers: the drill is about one")
}

// registry is the node of the registry that leads it, or the only one.
func registry(c *observe.Cluster) (*observe.Node, error) {
	var found *observe.Node
	nodes := 0
	for _, n := range c.Nodes {
		if n.Role() == observe.Discovery && n.Status != nil {
			if nodes++; found == nil || leads(n) {
				found = n
			}
		}
	}
	if found == nil {
		return nil, errors.New("no node of a registry was found: name one in -a as well")
	}
	for _, n := range c.Nodes {
		if nodes < 3 && n.Role() == observe.Master && n.Status.GetRecord() != "" {
			return nil, fmt.Errorf("the masters answer only while they hold the registry's lease (auto-promote-after), and the registry has no majority without one node: "+
				"the drill needs three nodes of the registry, and found %d", nodes)
		}
	}
	return found, nil
}
