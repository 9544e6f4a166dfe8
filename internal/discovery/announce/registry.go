// Package announce is a node's side of the registry: an Announcer tells what the
// node serves, a Directory follows what all nodes serve. Both go on while the
// registry is away.
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
	// present is the index of the one that is asked.
	present atomic.Uint64
}

func newNodes(pool *peer.Pool, addrs []string) *nodes {
	n := &nodes{pool: pool, addrs: addrs}
	// Not all nodes of a cluster ask the same one.
	n.present.Store(uint64(rand.IntN(max(len(addrs), 1))))
	return n
}

// addr is the present one's address; empty where there is none.
func (n *nodes) addr() string {
	if len(n.addrs) == 0 {
		return ""
	}
	return n.addrs[n.present.Load()%uint64(len(n.addrs))]
}

func (n *nodes) next() { n.present.Add(1) }

// try makes a call of one node after the other, from the present one on, until one
// does not fail. Where a node refuses what it is asked, another one would too.
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

// ask makes a call of the present node.
func (n *nodes) ask(ctx context.Context, limit time.Duration, call func(context.Context, *peer.Peer) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := n.reach(ctx)
	if err != nil {
		return err
	}
	return call(ctx, p)
}

// reach returns the present node once there is a connection, or none to be had.
func (n *nodes) reach(ctx context.Context) (*peer.Peer, error) {
	if len(n.addrs) == 0 {
		return nil, errNoNodes
	}
	return n.pool.Reach(ctx, n.addr())
}

var errNoNodes = kv.Errorf(kv.Invalid, "no node of the registry is configured (discovery-service-addr)")

// refused reports whether a node has answered, and every other one would answer so
// again.
func refused(err error) bool {
	if !peer.Answered(err) {
		return false
	}
	switch kv.KindOf(err) {
	case kv.Invalid, kv.Precondition, kv.Exhausted:
		return true
	default:
		return false
	}
}

// jittered spreads a pause, so that nodes do not come all at once.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// wait waits for d, or until it is to go on sooner. It tells whether ctx is
// still alive.
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
