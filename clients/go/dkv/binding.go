package dkv

import (
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// binding is the cluster that a client is bound to: the first one that it met. Nodes of
// another one are not used, whatever names them: a registry, or an address where
// another cluster is now.
type binding struct {
	// wanted is the id that one has to have; empty accepts any.
	wanted string
	// names are the vBuckets in hash order, as the first master told them; nil
	// before that.
	names []string
	// ids are those of the vBuckets' states, as far as they were told.
	ids map[string]string
	// deployment is what the masters call the whole; empty while none told.
	deployment string
}

func newBinding(wanted string) *binding {
	return &binding{wanted: wanted, ids: make(map[string]string)}
}

// check returns why a node may not be used; nil if it may.
func (b *binding) check(r *report) error {
	if !r.known() {
		if b.names != nil {
			return b.other(r, "does not say of which cluster it is")
		}
		return nil
	}
	if b.wanted != "" && r.deployment != b.wanted && !slices.ContainsFunc(r.parts, func(p part) bool { return p.cluster == b.wanted }) {
		return b.other(r, "is of cluster "+r.clusterName())
	}
	if !b.fits(r) {
		return b.other(r, fmt.Sprintf("has vBuckets %.200q, and not %.200q", r.names(), b.names))
	}
	told := false // the ids of its vBuckets
	for i := range r.parts {
		have, want := r.parts[i].cluster, b.ids[r.parts[i].name]
		if have == "" || want == "" {
			continue
		}
		if told = true; have != want {
			return b.other(r, "is of cluster "+r.clusterName())
		}
	}
	if !told && r.deployment != "" && b.deployment != "" && r.deployment != b.deployment {
		return b.other(r, "is of cluster "+r.clusterName())
	}
	return nil
}

// fits reports whether a node's vBuckets are those of the cluster; a slave may have
// some of them only.
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

// acceptOther is what to do for whom the other cluster is the right one.
const acceptOther = "; open a new client to use the other one"

func (b *binding) other(r *report, why string) error {
	return errorf(ErrOtherCluster, "node %s %s; this client is bound to cluster %s"+acceptOther, r.node.addr, why, b.name())
}

// bind takes what a node told that passed the check, and reports whether it was the
// first.
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

// name is that of the cluster: the id of its first vBucket.
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

// tag is what requests for a vBucket carry, so that nodes of another cluster refuse
// them; 0 while the id is not known.
func (b *binding) tag(vBucket string) uint64 {
	if id := b.ids[vBucket]; id != "" {
		return xxhash.Sum64String(id)
	}
	return 0
}

// known reports whether the node told of which cluster it is, as far as nodes can: those
// of earlier releases have names only, and some others not even that.
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
// its first vBucket; empty while it has met none. A client stays bound to the first
// cluster that it meets: nodes of another one are not used, and requests are refused
// there with ErrOtherCluster.
func (c *Client) Cluster() string {
	if c.learner == nil {
		return ""
	}
	c.learner.mu.Lock()
	defer c.learner.mu.Unlock()
	return c.learner.binding.name()
}
