package chaos

// pairFault is something that happens to a pair or its registry.
type pairFault struct {
	name string
	// master means that the master is gone until the fault ends, so that the slave must
	// replace it. Otherwise it may go on.
	master bool
	// hit begins the fault and returns how it ends.
	hit func(*twins, *node) (end func())
}

var pairFaults = []pairFault{
	{"killed", true, func(p *twins, n *node) func() { return p.killed(n) }},
	{"the registry's leader killed", false, func(p *twins, _ *node) func() { return p.killed(leaderOf(p.registry)) }},
	{"paused", true, func(p *twins, n *node) func() { return p.paused(n) }},
	{"cut from all", true, func(p *twins, n *node) func() { return p.cut(n, true, true, append(p.others(n), p.registry...)) }},
	{"killed with the registry's leader", true, func(p *twins, n *node) func() { return p.killed(n, leaderOf(p.registry)) }},
	{"cut from the registry", true, func(p *twins, n *node) func() { return p.cut(n, true, true, p.registry) }},
	{"hears no one", true, func(p *twins, n *node) func() { return p.cut(n, true, false, append(p.others(n), p.registry...)) }},
	{"the registry's leader paused", false, func(p *twins, _ *node) func() { return p.paused(leaderOf(p.registry)) }},
	{"heard by no one", true, func(p *twins, n *node) func() { return p.cut(n, false, true, append(p.others(n), p.registry...)) }},
	{"a follower of the registry killed", false, func(p *twins, _ *node) func() { return p.killed(p.follower()) }},
}

// follower is a node of the registry that does not lead it.
func (p *twins) follower() *node {
	if leaderOf(p.registry) == p.registry[0] {
		return p.registry[1]
	}
	return p.registry[0]
}

// killed kills nodes until they are started again.
func (p *twins) killed(nodes ...*node) (end func()) {
	for _, n := range nodes {
		n.kill()
	}
	return func() { p.start(nodes...) }
}

func (p *twins) paused(n *node) (end func()) {
	n.pause()
	return n.resume
}

// cut drops what a node receives from others, or what it sends to them, or both.
func (p *twins) cut(n *node, in, out bool, from []*node) (end func()) {
	var rules []string
	for _, o := range from {
		if in {
			rules = append(rules, "INPUT -s "+o.ip)
		}
		if out {
			rules = append(rules, "OUTPUT -d "+o.ip)
		}
	}
	n.cut(rules)
	return n.heal
}
