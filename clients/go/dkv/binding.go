package dkv

import (
	"fmt"
	"slices"

	"github.com/dkvdb/dkv/internal/kv"
)

// binding is the cluster that a client is bound to: the first one that answered. Nodes of
// another cluster are not used, even if a registry lists them or they now have the
// address of a former node.
type binding struct {
	// wanted is the id that the cluster must have, its own or that of a vBucket's state; empty
	// accepts any.
	wanted string
	// names are the vBuckets in hash order, as the first master reported them; nil
	// before that.
	names []string
	// ids are those of the vBuckets' states, as far as they were reported.
	ids map[string]string
	// deployment is the cluster's id as masters report it; empty until one does.
	deployment string
}

func newBinding(wanted string) *binding {
	return &binding{wanted: wanted, ids: make(map[string]string)}
}

// check returns why a node may not be used; nil if it may.
func (b *binding) check(r *report) error {
	if !r.known() {
		if b.names != nil {
			return b.other(r, "does not say which cluster it belongs to")
		}
		return nil
	}
	if !b.fits(r) {
		return b.other(r, fmt.Sprintf("has vBuckets %.200q, and not %.200q", r.names(), b.names))
	}
	compared := false // the id of a vBucket
	for i := range r.parts {
		have, want := r.parts[i].cluster, b.ids[r.parts[i].name]
		if have == "" || want == "" {
			continue
		}
		if compared = true; have != want {
			return b.other(r, "belongs to cluster "+r.clusterName())
		}
	}
	// A promotion gives the masters another name, and slaves report none: the ids count, once they are known.
	if !compared && (!b.isWanted(r) || r.deployment != "" && b.deployment != "" && r.deployment != b.deployment) {
		return b.other(r, "belongs to cluster "+r.clusterName())
	}
	return nil
}

// isWanted reports whether a node has the id that the cluster must have.
func (b *binding) isWanted(r *report) bool {
	return b.wanted == "" || r.deployment == b.wanted || slices.ContainsFunc(r.parts, func(p part) bool { return p.cluster == b.wanted })
}

// fits reports whether a node's vBuckets are those of the cluster; a slave may have
// only some of them.
func (b *binding) fits(r *report) bool {
	switch {
	case b.names == nil:
		return true
	case r.slave:
		return !slices.ContainsFunc(r.parts, func(p part) bool { return !slices.Contains(b.names, p.name) })
	default:
		return slices.Equal(b.names, r.names())
	}
}

// openAnother is what the user can do if the other cluster is the right one.
const openAnother = "; open a new client to use the other one"

func (b *binding) other(r *report, why string) error {
	return errorf(ErrOtherCluster, "node %s %s; this client is bound to cluster %s"+openAnother, r.node.addr, why, b.name())
}

// bind adds what a node that passed the check reports, and returns whether it was the
// first such node.
func (b *binding) bind(r *report) (first bool) {
	if !r.known() {
		return false
	}
	first = len(b.ids) == 0 && b.deployment == "" && b.names == nil
	if b.names == nil && !r.slave {
		b.names = r.names()
	}
	for _, p := range r.parts {
		if p.cluster != "" && b.ids[p.name] == "" {
			b.ids[p.name] = p.cluster
		}
	}
	if b.deployment == "" {
		b.deployment = r.deployment
	}
	return first
}

// name returns the cluster's name: the id of its first vBucket whose id is known.
func (b *binding) name() string {
	for _, name := range b.names {
		if id := b.ids[name]; id != "" {
			return id
		}
	}
	for _, id := range b.ids {
		return id
	}
	if b.deployment != "" {
		return b.deployment
	}
	return b.wanted
}

// tag returns the hash that requests for a vBucket carry, so that nodes of another
// cluster reject them; 0 while the id is not known.
func (b *binding) tag(vBucket string) uint64 {
	if id := b.ids[vBucket]; id != "" {
		return kv.ClusterTag(id)
	}
	return 0
}

// known reports whether the node says which cluster it belongs to. Nodes of earlier
// releases have vBucket names only, and the oldest not even those.
func (r *report) known() bool { return len(r.parts) > 0 && r.parts[0].name != "" }

func (r *report) names() []string {
	out := make([]string, len(r.parts))
	for i := range r.parts {
		out[i] = r.parts[i].name
	}
	return out
}

func (r *report) clusterName() string {
	for i := range r.parts {
		if r.parts[i].cluster != "" {
			return r.parts[i].cluster
		}
	}
	return r.deployment
}

// Cluster returns the id of the cluster that the client is bound to, which is that of
// its first vBucket; empty before a node has answered. A client stays bound to the first
// cluster that answers: nodes of another one are not used, and reject its requests with
// ErrOtherCluster.
func (c *Client) Cluster() string {
	if c.learner == nil {
		return ""
	}
	c.learner.mu.Lock()
	defer c.learner.mu.Unlock()
	return c.learner.binding.name()
}
