// Package announce is a node's side of the discovery registry: an Announcer reports what
// the node serves, and a Directory follows what all nodes serve. Both keep trying while
// the registry cannot be reached.
package announce

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// nodes are the registry's nodes, any of which may be asked.
type nodes struct {
	pool  *peer.Pool
	addrs []string
	// present is the index of the node that is asked.
	present atomic.Uint64
}

func newNodes(pool *peer.Pool, addrs []string) *nodes {
	n := &nodes{pool: pool, addrs: addrs}
	// The nodes of a cluster start with different ones.
	n.present.Store(uint64(rand.IntN(max(len(addrs), 1))))
	return n
}

// addr returns the current node's address; empty if there are no nodes.
func (n *nodes) addr() string {
	if len(n.addrs) == 0 {
		return ""
	}
	return n.addrs[n.present.Load()%uint64(len(n.addrs))]
}

func (n *nodes) next() { n.present.Add(1) }

// try makes a call of one node after the other, starting with the current one, until one
// succeeds or rejects it: another node would reject it too.
func (n *nodes) try(ctx context.Context, perNode time.Duration, call func(context.Context, *peer.Peer) error) error {
	if len(n.addrs) == 0 {
		return errNoNodes
	}
	var err error
	for range n.addrs {
		if err = n.ask(ctx, perNode, call); err == nil || refused(err) || ctx.Err() != nil {
			return err
		}
		n.next()
	}
	return err
}

// ask makes a call of the current node.
func (n *nodes) ask(ctx context.Context, limit time.Duration, call func(context.Context, *peer.Peer) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := n.reach(ctx)
	if err != nil {
		return err
	}
	return call(ctx, p)
}

// reach returns the current node once a connection stands or has failed.
func (n *nodes) reach(ctx context.Context) (*peer.Peer, error) {
	if len(n.addrs) == 0 {
		return nil, errNoNodes
	}
	return n.pool.Reach(ctx, n.addr())
}

var errNoNodes = kv.Errorf(kv.Invalid, "no node of the registry is configured (discovery-service-addr)")

// refused reports whether a node has rejected a call, as every other one would. An error that says
// when to retry is of a limit of that node alone, as on its requests in flight.
func refused(err error) bool {
	if !peer.Answered(err) {
		return false
	}
	switch kv.KindOf(err) {
	case kv.Invalid, kv.Precondition:
		return true
	case kv.Exhausted:
		return kv.RetryAfterOf(err) == 0
	default:
		return false
	}
}

// jittered varies a pause, so that nodes do not all call at the same moment.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// wait waits for d, or until sooner is sent to. It reports whether ctx has not ended.
func wait(ctx context.Context, d time.Duration, sooner <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-sooner:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
