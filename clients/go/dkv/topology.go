package dkv

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// topology says which nodes lead and which serve each vBucket. It is immutable; a change
// replaces it.
type topology struct {
	// vBuckets are in hash order, one at least.
	vBuckets []vBucket
	// masters hold all vBuckets and forward what they do not lead; those in the client's
	// data centre come first.
	masters []*node
	// near is how many of the masters are in the client's data centre.
	near int
	// noIDs reports that nodes do not know request ids: they would apply a repeat again.
	noIDs bool
}

// vBucket is one part of the database.
type vBucket struct {
	name    string
	history string
	// cluster is the mark that requests carry, so that another cluster rejects them; 0
	// if it is not known.
	cluster uint64
	// leader is nil if it is not known.
	leader *node
	// replicas answer sequential reads; the first ones, near of them, are in the
	// client's data centre.
	replicas []*node
	near     int
}

// of returns the position of a key's vBucket.
func (t *topology) of(key []byte) int {
	return kv.VBucketOf(key, len(t.vBuckets))
}

// allLed reports whether all leaders are known and can be reached.
func (t *topology) allLed() bool {
	for i := range t.vBuckets {
		if l := t.vBuckets[i].leader; l == nil || !l.reachable() {
			return false
		}
	}
	return true
}

// forWrite returns the node for a mutation or a linearizable read: the leader, or a master
// that will forward to it. avoid has just failed, unless it is nil.
func (t *topology) forWrite(v int, avoid *node) *node {
	if l := t.vBuckets[v].leader; l != nil && l != avoid && l.reachable() {
		return l
	}
	n := cheapest(t.masters, t.near, avoid)
	switch {
	case n == nil:
		return t.vBuckets[v].leader
	case n.passes():
		return t.amongMasters(n, avoid)
	}
	return n
}

// amongMasters returns the node at a fixed address to ask instead of one that leaves requests to masters; that one
// if it is not known of any other that it does not.
func (t *topology) amongMasters(n, avoid *node) *node {
	left := slices.DeleteFunc(slices.Clone(t.masters), (*node).passes)
	if other := cheapest(left, 0, avoid); other != nil && other != avoid && other.reachable() {
		return other
	}
	return n
}

// forRead returns the node for a sequential read: the replica that is expected to answer
// first, in the client's data centre if there is one.
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

// forReadOfAll returns the node for a sequential read of all vBuckets: of the replicas of each of
// them the one that is expected to answer first, or nil if there is none.
func (t *topology) forReadOfAll(avoid *node) *node {
	first := &t.vBuckets[0]
	var nodes []*node
	near := 0
	for i, n := range first.replicas {
		if slices.ContainsFunc(t.vBuckets[1:], func(b vBucket) bool { return !slices.Contains(b.replicas, n) }) {
			continue
		}
		nodes = append(nodes, n)
		if i < first.near {
			near++
		}
	}
	return cheapest(nodes, near, avoid)
}

// cheapest returns the node of the least cost among the first near ones, or else among the
// rest. It returns one that is to be avoided or cannot be reached only if there is no
// other, and nil if there are no nodes.
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

// turns are the nodes at fixed addresses that have failed a request. Who leads is not known there, and all of
// them have a turn before one has a second.
type turns []*node

// next returns the node for the attempt after one at n.
func (tried *turns) next(t *topology, n *node) *node {
	if !slices.Contains(*tried, n) {
		*tried = append(*tried, n)
	}
	left := func() []*node {
		return slices.DeleteFunc(slices.Clone(t.masters), func(m *node) bool { return slices.Contains(*tried, m) })
	}
	others := left()
	if !slices.ContainsFunc(others, (*node).reachable) {
		// A node that is passed over, as one that hangs, comes behind those that have answered.
		*tried = turns{n}
		if again := left(); len(others) == 0 || slices.ContainsFunc(again, (*node).reachable) {
			others = again
		}
	}
	return cmp.Or(cheapest(others, 0, nil), n)
}

// strange returns why a node is not of this cluster, by the status that it reports; nil if it is, or does not
// say.
func (t *topology) strange(n *node, s *serverpb.NodeStatusResponse) error {
	for _, v := range s.GetVBuckets() {
		i := slices.IndexFunc(t.vBuckets, func(b vBucket) bool { return b.name == v.GetVBucket() })
		if i >= 0 && t.vBuckets[i].cluster != 0 && v.GetClusterId() != "" && kv.ClusterTag(v.GetClusterId()) != t.vBuckets[i].cluster {
			return &Error{Kind: ErrOtherCluster, Address: n.name(),
				Err: fmt.Errorf("node %s belongs to cluster %s, which is not the one that this client is bound to"+openAnother, n.name(), v.GetClusterId())}
		}
	}
	return nil
}

// equal reports whether two topologies are the same.
func (t *topology) equal(o *topology) bool {
	return t.near == o.near && t.noIDs == o.noIDs && slices.Equal(t.masters, o.masters) && slices.EqualFunc(t.vBuckets, o.vBuckets,
		func(a, b vBucket) bool {
			return a.name == b.name && a.history == b.history && a.cluster == b.cluster && a.leader == b.leader && a.near == b.near &&
				slices.Equal(a.replicas, b.replicas)
		})
}

// leaders returns the leaders' addresses in hash order; empty for one that is not known.
func (t *topology) leaders() []string {
	out := make([]string, len(t.vBuckets))
	for i := range t.vBuckets {
		if l := t.vBuckets[i].leader; l != nil {
			out[i] = l.addr
		}
	}
	return out
}
