package dkv

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// topology is who serves what, as of one moment. It does not change.
type topology struct {
	// vBuckets are in hash order, one at least.
	vBuckets []vBucket
	// masters hold all vBuckets and hand on what they do not lead; own DC first.
	masters []*node
	// near are how many of the masters are in the client's DC.
	near int
}

// vBucket is one part of the database.
type vBucket struct {
	name    string
	history string
	// cluster is what requests carry, so that another cluster refuses them; 0 if
	// it is not known.
	cluster uint64
	// leader is nil where it is not known.
	leader *node
	// replicas are those that answer sequential reads, near of them, the first
	// ones, in the client's DC.
	replicas []*node
	near     int
}

// of returns the position of a key's vBucket: (xxhash64(key) & 0xFFFF) mod N.
func (t *topology) of(key []byte) int {
	if len(t.vBuckets) == 1 {
		return 0
	}
	return int((xxhash.Sum64(key) & 0xFFFF) % uint64(len(t.vBuckets)))
}

// led tells whether all leaders are known and can be reached.
func (t *topology) led() bool {
	for i := range t.vBuckets {
		if l := t.vBuckets[i].leader; l == nil || !l.reachable() {
			return false
		}
	}
	return true
}

// forWrite returns the node for a mutation or a linearizable read: the leader, or
// a master that will find it. avoid, where it is not nil, has just failed.
func (t *topology) forWrite(v int, avoid *node) *node {
	if l := t.vBuckets[v].leader; l != nil && l != avoid && l.reachable() {
		return l
	}
	if n := cheapest(t.masters, t.near, avoid); n != nil {
		return n
	}
	return t.vBuckets[v].leader
}

// forRead returns the node for a sequential read: the replica from which the
// answer is expected first, in the own DC where there is one.
func (t *topology) forRead(v int, avoid *node) *node {
	b := &t.vBuckets[v]
	if len(b.replicas) == 1 && b.replicas[0] != avoid {
		return b.replicas[0]
	}
	if n := cheapest(b.replicas, b.near, avoid); n != nil {
		return n
	}
	return t.forWrite(v, avoid)
}

// cheapest returns the node of the least cost among the first near, or among the
// rest; one that is to be avoided or cannot be reached only where there is no
// other. It returns nil where there are none.
func cheapest(nodes []*node, near int, avoid *node) *node {
	for _, tier := range [...][]*node{nodes[:near], nodes[near:]} {
		var best *node
		var least int64
		for _, n := range tier {
			if n == avoid || !n.reachable() {
				continue
			}
			if c := n.cost(); best == nil || c < least {
				best, least = n, c
			}
		}
		if best != nil {
			return best
		}
	}
	for _, n := range nodes {
		if n != avoid {
			return n
		}
	}
	if len(nodes) > 0 {
		return nodes[0]
	}
	return nil
}

// report is what one node told of itself.
type report struct {
	node *node
	// identity tells nodes apart that are reached under several addresses.
	identity string
	// address is the one that the node tells of itself.
	address string
	dc      string
	slave   bool
	// deployment is what the node calls its cluster; empty if it does not say.
	deployment string
	parts      []part
}

// part is a node's share in a vBucket.
type part struct {
	name, history, cluster string
	serving                bool
	leads                  bool
	term                   uint64
	// leader is the address that the node takes for the leader's.
	leader string
}

// build puts together what nodes told. names are the vBuckets, as far as they are known
// for good; reach returns the node at an address, nil if it may not be used. It returns
// nil if the reports do not suffice.
func build(reports []*report, names []string, dc string, reach func(addr string) *node) *topology {
	reports = distinct(reports)
	told := layoutOf(reports)
	if told == nil {
		return nil
	}
	if names == nil {
		for i := range told {
			names = append(names, told[i].name)
		}
	}
	t := &topology{vBuckets: make([]vBucket, len(names))}
	for i := range names {
		t.vBuckets[i] = buildVBucket(names[i], reports, dc, reach)
	}
	t.masters, t.near = inOrder(reports, dc, func(r *report) bool { return !r.slave })
	return t
}

// distinct leaves one report of each node: the one under the address that the node
// itself tells, where there is one.
func distinct(reports []*report) []*report {
	byIdentity := make(map[string]*report, len(reports))
	for _, r := range reports {
		if old := byIdentity[r.identity]; old == nil || old.node.addr != old.address && (r.node.addr == r.address || r.node.addr < old.node.addr) {
			byIdentity[r.identity] = r
		}
	}
	out := make([]*report, 0, len(byIdentity))
	for _, r := range byIdentity {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *report) int { return cmp.Compare(a.node.addr, b.node.addr) })
	return out
}

// layoutOf returns the vBuckets in hash order, as a master tells them; what slaves
// tell counts where no master does.
func layoutOf(reports []*report) []part {
	var best *report
	for _, r := range reports {
		if len(r.parts) == 0 {
			continue
		}
		if best == nil || best.slave && !r.slave || best.slave == r.slave && len(r.parts) > len(best.parts) {
			best = r
		}
	}
	if best == nil {
		return nil
	}
	return best.parts
}

func (r *report) part(name string) *part {
	for i := range r.parts {
		if r.parts[i].name == name {
			return &r.parts[i]
		}
	}
	return nil
}

func buildVBucket(name string, reports []*report, dc string, reach func(addr string) *node) vBucket {
	out := vBucket{name: name}
	var lead *part
	for _, r := range reports {
		// Of two that lead, the one of the greater term does.
		if p := r.part(name); p != nil && p.leads && (lead == nil || p.term > lead.term) {
			lead, out.leader, out.history = p, r.node, p.history
		}
	}
	if lead == nil {
		out.leader, out.history = hearsay(name, reports, reach)
	}
	out.replicas, out.near = inOrder(reports, dc, func(r *report) bool {
		p := r.part(name)
		return p != nil && p.serving
	})
	return out
}

// hearsay is the leader according to those that follow it, where it did not tell
// anything itself.
func hearsay(name string, reports []*report, reach func(addr string) *node) (*node, string) {
	var newest *part
	for _, r := range reports {
		if p := r.part(name); p != nil && p.leader != "" && (newest == nil || p.term > newest.term) {
			newest = p
		}
	}
	if newest == nil {
		return nil, ""
	}
	for _, r := range reports {
		if r.address == newest.leader {
			return r.node, newest.history
		}
	}
	if !dialable(newest.leader) {
		return nil, newest.history
	}
	return reach(newest.leader), newest.history
}

// inOrder returns the nodes of the reports that match, those of the DC first, and
// how many those are.
func inOrder(reports []*report, dc string, match func(*report) bool) (nodes []*node, near int) {
	var far []*node
	for _, r := range reports {
		switch {
		case !match(r):
		case dc != "" && r.dc == dc:
			nodes = append(nodes, r.node)
		default:
			far = append(far, r.node)
		}
	}
	return append(nodes, far...), len(nodes)
}

// equal tells whether two topologies say the same.
func (t *topology) equal(o *topology) bool {
	return t.near == o.near && slices.Equal(t.masters, o.masters) && slices.EqualFunc(t.vBuckets, o.vBuckets,
		func(a, b vBucket) bool {
			return a.name == b.name && a.history == b.history && a.cluster == b.cluster && a.leader == b.leader && a.near == b.near &&
				slices.Equal(a.replicas, b.replicas)
		})
}

// leaders are their addresses, in hash order; empty where they are not known.
func (t *topology) leaders() []string {
	out := make([]string, len(t.vBuckets))
	for i := range t.vBuckets {
		if l := t.vBuckets[i].leader; l != nil {
			out[i] = l.addr
		}
	}
	return out
}
