package dkv

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// node is one address with its connections and what calls have found out about it.
type node struct {
	addr string
	peer atomic.Pointer[peer.Peer]
	// calls are those under way.
	calls atomic.Int64
	// latency is the moving average of how long answers take, in nanoseconds; 0
	// is not known.
	latency atomic.Int64
	// down is when the node could not be reached, since start; 0 is never, or not
	// since.
	down atomic.Int64
}

const (
	// shunned is for how long a node that could not be reached is passed over
	// where there are others.
	shunned = time.Second
	// connectTime bounds waiting for a connection where another node may do
	// better.
	connectTime = time.Second
)

// start makes small monotonic time stamps.
var start = time.Now()

func now() int64 { return int64(time.Since(start)) }

func (n *node) reachable() bool {
	down := n.down.Load()
	return down == 0 || now()-down > int64(shunned)
}

// name is the node's address; that of nobody is empty.
func (n *node) name() string {
	if n == nil {
		return ""
	}
	return n.addr
}

// errNobody is the error of a request for which no node is known; a nil node has
// it.
var errNobody = kv.Errorf(kv.Unavailable, "no node is known that serves the request")

// invoke makes a call, which it only sends where there is a connection.
func (n *node) invoke(ctx context.Context, method string, req, resp any) error {
	if n == nil {
		return errNobody
	}
	p := n.peer.Load()
	if !p.Ready() {
		if err := n.connect(ctx); err != nil {
			return err
		}
	}
	n.calls.Add(1)
	err := p.Invoke(ctx, method, req, resp)
	n.calls.Add(-1)
	return n.note(err)
}

// stream opens a stream of responses.
func (n *node) stream(ctx context.Context, method string, req any) (*peer.Stream, error) {
	if n == nil {
		return nil, errNobody
	}
	if err := n.connect(ctx); err != nil {
		return nil, err
	}
	s, err := n.peer.Load().Stream(ctx, method, req)
	return s, n.note(err)
}

// connect waits until a connection stands or has failed. Its error is a kv.Error.
func (n *node) connect(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	err := n.peer.Load().Reach(limited)
	if err != nil && ctx.Err() == nil {
		n.down.Store(now())
	}
	return err
}

// note remembers whether the node was reached.
func (n *node) note(err error) error {
	switch {
	case err == nil:
		if n.down.Load() != 0 {
			n.down.Store(0)
		}
	case peer.Answered(err), kv.KindOf(err) != kv.Unavailable, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		n.down.Store(now())
	}
	return err
}

// took adds an answer to the moving average.
func (n *node) took(d time.Duration) {
	const weight = 8
	old := n.latency.Load()
	if old == 0 {
		n.latency.Store(max(1, int64(d)))
		return
	}
	n.latency.Store(max(1, old+(int64(d)-old)/weight))
}

// cost is how long an answer may be expected to take, for comparison.
func (n *node) cost() int64 {
	const least = int64(20 * time.Microsecond) // differences below it are noise
	return (n.latency.Load() + least) * (1 + n.calls.Load())
}
