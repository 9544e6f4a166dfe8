package dkv

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// node is one address with its connections and the experience of earlier calls.
type node struct {
	addr string
	// fixed reports that the node is not probed (WithFixedAddresses).
	fixed bool
	peer  atomic.Pointer[peer.Peer]
	// calls counts the calls in progress, ended those that are over.
	calls atomic.Int64
	ended atomic.Uint64
	// aside counts those of the calls in progress that are the user's own (Conn): they may take
	// long, as a backup does.
	aside atomic.Int64
	// latency is the moving average of response times, in nanoseconds; 0 means
	// unknown.
	latency atomic.Int64
	// down is the time of the last failure to reach the node, in nanoseconds since
	// start; 0 after a success.
	down atomic.Int64
	// passed is when the node, at a fixed address, last left to masters what is for them, as
	// slaves do; 0 if it never did.
	passed atomic.Int64
}

const (
	// avoidFor is how long a node that could not be reached is passed over if there
	// are others.
	avoidFor = time.Second
	// hangsAfter is how long a node that is not probed may leave a call without an answer before it is
	// passed over, for hangsFor: its connection does not break, and each call would wait for it.
	hangsAfter = time.Second
	hangsFor   = 10 * time.Second
	// connectTime bounds the wait for a connection: another node may answer sooner.
	connectTime = time.Second
	// passesFor is how long a node that leaves requests to masters is taken to go on with that if there are
	// others.
	passesFor = 10 * time.Second
)

// start is the origin of the time stamps that now returns.
var start = time.Now()

func now() int64 { return int64(time.Since(start)) }

func (n *node) reachable() bool {
	down := n.down.Load()
	return down == 0 || now()-down > int64(avoidFor)
}

// passes reports whether the node is expected to leave to masters what is for them.
func (n *node) passes() bool {
	at := n.passed.Load()
	return at != 0 && now()-at < int64(passesFor)
}

// name returns the node's address; that of a nil node is empty.
func (n *node) name() string {
	if n == nil {
		return ""
	}
	return n.addr
}

// errNoNode is the error of a request for which no node is known; calls of a nil node
// return it.
var errNoNode = kv.Errorf(kv.Unavailable, "no node is known that serves the request")

// invoke makes a call. It sends the request only over an open connection.
func (n *node) invoke(ctx context.Context, method string, req, resp any) error {
	if n == nil {
		return errNoNode
	}
	p := n.peer.Load()
	if !p.Ready() {
		if err := n.connect(ctx); err != nil {
			return err
		}
	}
	began := n.begin()
	err := p.Invoke(traced(ctx), method, req, resp)
	return n.end(ctx, began, err)
}

// begin counts a call, and returns when it began if that matters.
func (n *node) begin() (began int64) {
	n.calls.Add(1)
	if n.fixed {
		began = now()
	}
	return began
}

// end notes how a call has ended that began then, and returns its error.
func (n *node) end(ctx context.Context, began int64, err error) error {
	n.calls.Add(-1)
	n.ended.Add(1)
	err = endedBy(ctx, err)
	if n.fixed && unanswered(err) && now()-began >= int64(hangsAfter) {
		n.down.Store(now() + int64(hangsFor-avoidFor))
	}
	return n.note(ctx, err)
}

// waitedFor reports whether calls wait for the node that should not take long.
func (n *node) waitedFor() bool { return n.calls.Load() > n.aside.Load() }

// stream opens a stream of responses.
func (n *node) stream(ctx context.Context, method string, req any) (*peer.Stream, error) {
	if n == nil {
		return nil, errNoNode
	}
	if err := n.connect(ctx); err != nil {
		return nil, err
	}
	s, err := n.peer.Load().Stream(ctx, method, req)
	return s, n.note(ctx, err)
}

// await opens a stream of responses and waits for the first one, as a call does for its only one. At the
// end of a stream without any, its error is io.EOF.
func (n *node) await(ctx context.Context, method string, req, first any) (*peer.Stream, error) {
	if n == nil {
		return nil, errNoNode
	}
	if err := n.connect(ctx); err != nil {
		return nil, err
	}
	began := n.begin()
	s, err := n.peer.Load().Stream(ctx, method, req)
	if err == nil {
		err = s.Recv(first)
	}
	if errors.Is(err, io.EOF) {
		_ = n.end(ctx, began, nil)
		return s, err
	}
	return s, n.end(ctx, began, err)
}

// connect waits until a connection is open or has failed. Its error is a kv.Error. A node that
// is not reached in time counts as down, also if the caller's time was short: the next calls try
// another one.
func (n *node) connect(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	err := n.peer.Load().Reach(limited)
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) { // whatever cause the caller gives
		n.down.Store(now())
	}
	return endedBy(ctx, err)
}

// note records whether the node was reached, and returns err as endedBy does.
func (n *node) note(ctx context.Context, err error) error {
	err = endedBy(ctx, err)
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

// observe adds a response time to the moving average.
func (n *node) observe(d time.Duration) {
	const weight = 8
	old := n.latency.Load()
	if old == 0 {
		n.latency.Store(max(1, int64(d)))
		return
	}
	n.latency.Store(max(1, old+(int64(d)-old)/weight))
}

// cost returns the expected response time under the present load, for comparison.
func (n *node) cost() int64 {
	const least = int64(20 * time.Microsecond) // differences below it are noise
	return (n.latency.Load() + least) * (1 + n.calls.Load())
}
