package dkv

import (
	"cmp"
	"slices"

	"github.com/dkvdb/dkv/internal/era"
)

// report is what one node says of itself.
type report struct {
	node *node
	// identity is the same for a node under all its addresses, and differs between nodes.
	identity string
	// address is the one that the node advertises.
	address string
	dc      string
	slave   bool
	// deployment is the cluster's id as the node reports it; empty if it does not.
	deployment string
	parts      []part
	// removed reports that its cluster has removed the node from all vBuckets.
	removed bool
	// noIDs reports that it is of the earlier system, which knows no request ids.
	noIDs bool
}

// part is a node's share in a vBucket.
type part struct {
	name, history, cluster string
	serving                bool
	leads                  bool
	term                   uint64
	// leader is the address of the leader, as far as the node knows.
	leader string
}

// build builds the topology from reports. names are the cluster's vBuckets in hash order,
// or nil if they are not known yet; reach returns the node at an address, or nil if it may
// not be used. build returns nil if the reports do not suffice.
func build(reports []*report, names []string, dc string, reach func(addr string) *node) *topology {
	reports = distinct(reports)
	layout := layoutOf(reports)
	if layout == nil {
		return nil
	}
	if names == nil {
		for i := range layout {
			names = append(names, layout[i].name)
		}
	}
	t := &topology{vBuckets: make([]vBucket, len(names))}
	reports = withoutFormer(reports)
	for i := range names {
		t.vBuckets[i] = buildVBucket(names[i], reports, dc, reach)
	}
	t.noIDs = slices.ContainsFunc(reports, func(r *report) bool { return r.noIDs })
	t.masters, t.near = inOrder(reports, dc, func(r *report) bool { return !r.slave && !r.removed })
	return t
}

// distinct keeps one report of each node: the one under the address that the node
// advertises, if there is one.
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

// layoutOf returns the vBuckets in hash order, as a master reports them; a slave's report
// counts if there is no master's.
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

// withoutFormer leaves out the masters that a promotion has replaced: another node leads a
// vBucket in a later era. They may not know that yet.
func withoutFormer(reports []*report) []*report {
	eras := make(map[string]uint64) // in which nodes lead, by vBucket
	for _, r := range reports {
		for i := range r.parts {
			if p := &r.parts[i]; p.leads && era.Of(p.history) > eras[p.name] {
				eras[p.name] = era.Of(p.history)
			}
		}
	}
	if len(eras) == 0 {
		return reports // there was no promotion
	}
	return slices.DeleteFunc(reports, func(r *report) bool {
		return !r.slave && slices.ContainsFunc(r.parts, func(p part) bool {
			return p.history != "" && era.Of(p.history) < eras[p.name]
		})
	})
}

// before reports whether what a node knows of a vBucket is older than what another one does.
// Terms of different eras cannot be compared.
func (p *part) before(o *part) bool {
	return cmp.Or(cmp.Compare(era.Of(p.history), era.Of(o.history)), cmp.Compare(p.term, o.term)) < 0
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
		// If two nodes say that they lead, the one of the later era does, and in one era that
		// of the greater term.
		if p := r.part(name); p != nil && p.leads && (lead == nil || lead.before(p)) {
			lead, out.leader, out.history = p, r.node, p.history
		}
	}
	if lead == nil {
		out.leader, out.history = leaderByFollowers(name, reports, reach)
	}
	out.replicas, out.near = inOrder(reports, dc, func(r *report) bool {
		p := r.part(name)
		return p != nil && p.serving
	})
	return out
}

// leaderByFollowers returns the leader that the followers name, and its history, for when
// the leader itself has not answered.
func leaderByFollowers(name string, reports []*report, reach func(addr string) *node) (*node, string) {
	var newest *part
	for _, r := range reports {
		if p := r.part(name); p != nil && p.leader != "" && (newest == nil || newest.before(p)) {
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

// inOrder returns the nodes of the reports that match, those in data centre dc first, and
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
