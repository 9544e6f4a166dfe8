// Package route brings a request to the node that owns the log of its vBucket, for every
// gRPC service. It knows which vBucket a key belongs to, marks forwarded requests, decides
// how long to look for an owner and which errors allow another attempt, and says what became
// of a mutation whose answer did not arrive.
//
// A request is forwarded at most once. A node that gets a forwarded request and is not the
// owner rejects it with kv.NotOwner; the node that forwarded it then looks for the owner
// again. Clients never see that error.
package route

import (
	"context"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
)

// Router forwards requests to the owners of their vBuckets. A nil Router is that of a node
// without other nodes: it forwards nothing.
type Router struct {
	pool *peer.Pool
	// copies is set on a node that has copies only, and reads if such a node forwards
	// linearizable reads.
	copies, reads bool
	counts        struct{ reads, writes atomic.Uint64 }
}

// New makes a router that reaches the other nodes through a pool. The caller keeps and
// closes the pool.
func New(pool *peer.Pool) *Router { return &Router{pool: pool} }

// NewForCopies makes the router of a node that has copies only. It forwards no mutations,
// and linearizable reads only if forwardReads is set; the copies reject the rest.
func NewForCopies(pool *peer.Pool, forwardReads bool) *Router {
	return &Router{pool: pool, copies: true, reads: forwardReads}
}

// HasCopies reports whether this node has copies only, and owns no log.
func (r *Router) HasCopies() bool { return r != nil && r.copies }

// keeps reports whether this node answers a call even if another one owns the log.
func (r *Router) keeps(c Call) bool { return r.HasCopies() && (c.Mutates || !r.reads) }

// stays reports whether a request must not be forwarded.
func (r *Router) stays(ctx context.Context) bool { return r == nil || Forwarded.In(ctx) }

// Forwards are numbers of forwarded requests.
type Forwards struct{ Reads, Writes uint64 }

// Forwards returns how many requests were forwarded since the start. A request that took
// several attempts counts once.
func (r *Router) Forwards() Forwards {
	if r == nil {
		return Forwards{}
	}
	return Forwards{Reads: r.counts.reads.Load(), Writes: r.counts.writes.Load()}
}

func (r *Router) count(c Call) {
	if c.Mutates {
		r.counts.writes.Add(1)
	} else {
		r.counts.reads.Add(1)
	}
}

// Call is a method that the owner of a vBucket serves.
type Call struct {
	// Method is its full name in gRPC.
	Method string
	// Mutates is set if repeating the call after an unknown outcome is not safe.
	Mutates bool
	// Small: most requests and responses are, so that calls are forwarded over one stream.
	Small bool
}

// Leg is the part of a request that one node serves.
type Leg struct {
	Owner    replica.Owner
	VBuckets []VBucket
}

// names returns the names of the vBuckets of a leg.
func (l Leg) names() []string {
	out := make([]string, len(l.VBuckets))
	for i, v := range l.VBuckets {
		out[i] = v.Name
	}
	return out
}

// Here returns the leg of some vBuckets on this node.
func Here(vBuckets ...VBucket) Leg {
	return Leg{Owner: replica.Owner{Self: true}, VBuckets: vBuckets}
}

// legs divides vBuckets by the nodes that own them. Its errors are kv.NotOwner, unless there
// is no owner to wait for here.
func (r *Router) legs(ctx context.Context, c Call, vBuckets []VBucket) ([]Leg, error) {
	var out []Leg
next:
	for i, v := range vBuckets {
		owner := v.Owner()
		switch {
		case owner.Self:
		case r.keeps(c):
			owner.Self = true
		case r.stays(ctx):
			return nil, notOwner(v)
		case owner.Missed:
			return nil, missedOwner(v)
		case owner.Address == "":
			return nil, noOwner(v)
		}
		for k := range out {
			if o := out[k].Owner; o.Self == owner.Self && o.Address == owner.Address {
				out[k].VBuckets = append(out[k].VBuckets, v)
				continue next
			}
		}
		out = append(out, Leg{Owner: owner, VBuckets: vBuckets[i : i+1 : i+1]})
	}
	return out, nil
}

// moved reports whether another node owns a vBucket of the leg by now.
func (l Leg) moved() bool {
	for _, v := range l.VBuckets {
		if o := v.Owner(); o.Self != l.Owner.Self || o.Address != l.Owner.Address {
			return true
		}
	}
	return false
}

func notOwner(v VBucket) error {
	return kv.Errorf(kv.NotOwner, "this node does not own vBucket %s; ask its owner", v.Name)
}

func noOwner(v VBucket) error {
	return kv.Errorf(kv.NotOwner, "vBucket %s has no owner that is known here", v.Name)
}

func missedOwner(v VBucket) error {
	return kv.Errorf(kv.Unavailable, "this node has known no owner of vBucket %s for longer than an election takes; ask another node, or retry later", v.Name)
}
