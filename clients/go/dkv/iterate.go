package dkv

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// Range is the set of keys of an iteration, and what to return of them.
type Range struct {
	// Prefix selects the keys that begin with it; empty selects every key.
	Prefix []byte
	// Start is the first key to return, inclusive; empty starts at the first key, or
	// with Reverse at the last. It must begin with Prefix.
	Start []byte
	// Limit is the most pairs to return; 0 means all.
	Limit uint64
	// Reverse iterates in descending order, from Start downwards.
	Reverse bool
	// KeysOnly leaves out the values.
	KeysOnly bool
}

// Iterate returns an iterator over the pairs of a range, in byte order of their keys:
//
//	for pair, err := range c.Iterate(ctx, dkv.Range{Prefix: []byte("user/")}) {
//		if err != nil {
//			return err // the pairs so far are not all
//		}
//		...
//	}
//
// The pairs of one vBucket come from one state of it. The iteration is linearizable
// unless an option says otherwise. The client's time limit bounds the wait for each
// message, not the whole iteration, and the context bounds all of it.
//
// After an error, which comes with an empty pair, the iteration ends. It is not resumed
// by itself, since the rest would come from another state. If the server ended it because
// the loop read nothing for too long, Error.ResumeKey is where to start another one.
// Leaving the loop ends the request.
func (c *Client) Iterate(ctx context.Context, r Range, opts ...ReadOption) iter.Seq2[Pair, error] {
	o := readOptionsOf(opts)
	return func(yield func(Pair, error) bool) {
		req := &serverpb.IterateRequest{
			KeyPrefix:       r.Prefix,
			StartKey:        r.Start,
			ReadConsistency: o.consistency(),
			MinIndex:        o.minIndex,
			MaxAge:          o.maxAgeMillis(),
			Limit:           r.Limit,
			Reverse:         r.Reverse,
			KeysOnly:        r.KeysOnly,
			Batched:         true,
		}
		if err := c.iterate(ctx, req, o.level == Sequential, yield); err != nil {
			yield(Pair{}, err)
		}
	}
}

// errStalled ends a stream that has delivered nothing for too long.
var errStalled = errors.New("no message within the time limit")

// iterate sends the request, again if it fails before the first message, and delivers the
// pairs. It returns nil at the end, or when the consumer has left the loop.
func (c *Client) iterate(ctx context.Context, req *serverpb.IterateRequest, sequential bool, yield func(Pair, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(c.opts.timeout, func() { cancel(errStalled) })
	defer limit.Stop()
	if c.closed.Load() {
		return errClosed()
	}
	if _, err := c.awaitTopology(ctx); err != nil {
		return err
	}
	stamp(req, c.topology.Load().vBuckets[0].cluster)
	a := attempts{client: c, request: &request{method: serverpb.DKV_Iterate_FullMethodName, key: req.GetKeyPrefix(), sequential: sequential}, began: time.Now()}
	n := a.iterationNode(nil, nil)
	for pause := firstPause; ; pause = nextPause(pause) {
		attempt, end := context.WithCancelCause(ctx)
		s, first, err := a.openIteration(attempt, end, n, req)
		if err == nil {
			defer end(nil)
			return c.deliver(attempt, s, first, n, limit, yield)
		}
		end(nil)
		a.count++
		out := a.note(n, err)
		if !a.mayRepeat(out, err, n) {
			return a.finalError(ctx, out)
		}
		c.learner.probeSoon()
		if c.sleep(ctx, max(jitter(pause), kv.RetryAfterOf(err))) != nil {
			return a.finalError(ctx, out)
		}
		n = a.iterationNode(n, err)
	}
}

// iterationNode returns the node for an iteration: if there are several vBuckets, one that
// holds all of them, which is a master unless the iteration is sequential.
func (a *attempts) iterationNode(avoid *node, err error) *node {
	t := a.client.topology.Load()
	if a.client.opts.fixed && avoid != nil {
		return a.turns.next(t, avoid)
	}
	a.toLeader = a.toLeader || err != nil && stale(err)
	if len(t.vBuckets) > 1 {
		if a.request.sequential && !a.toLeader {
			if n := t.forReadOfAll(avoid); n != nil && n != avoid {
				return n
			}
		}
		if n := cheapest(t.masters, t.near, avoid); n != nil {
			return n
		}
	}
	if a.toLeader {
		return t.forWrite(0, avoid)
	}
	return a.request.node(t, avoid)
}

// errUnanswered ends an attempt at a node that has sent nothing in the part of the time that it had.
var errUnanswered = fmt.Errorf("%w: another node is asked", context.DeadlineExceeded)

// openIteration starts an iteration and waits for its first message, which is nil if
// there are no pairs. Until then a failure may be retried. As in other calls, one of several
// fixed addresses has a part of the time only: its node may hang.
func (a *attempts) openIteration(ctx context.Context, end context.CancelCauseFunc, n *node, req *serverpb.IterateRequest) (*peer.Stream, *serverpb.IterateResponse, error) {
	if a.client.opts.fixed && a.unanswered+1 < len(a.client.target.addrs) {
		left := time.Until(a.began.Add(a.client.opts.timeout))
		if deadline, limited := ctx.Deadline(); limited {
			left = min(left, time.Until(deadline))
		}
		share := time.AfterFunc(left-left/4, func() { end(errUnanswered) })
		defer share.Stop()
	}
	first := new(serverpb.IterateResponse)
	s, err := n.await(ctx, a.request.method, req, first)
	if errors.Is(err, io.EOF) {
		return s, nil, nil
	}
	return s, first, err
}

// deliver yields the pairs of a stream, whose first message is resp, until its end.
func (c *Client) deliver(ctx context.Context, s *peer.Stream, resp *serverpb.IterateResponse, n *node, limit *time.Timer, yield func(Pair, error) bool) error {
	for resp != nil {
		limit.Stop() // the consumer may take any time
		if err := failure(resp, n, false); err != nil {
			return err
		}
		if !yieldPairs(resp, yield) {
			return nil
		}
		limit.Reset(c.opts.timeout)
		resp = new(serverpb.IterateResponse)
		switch err := s.Recv(resp); {
		case errors.Is(err, io.EOF):
			return nil
		case c.closed.Load() && err != nil:
			return errClosed()
		case err != nil:
			out := toError(endedBy(ctx, err), n.name(), false)
			out.Err = fmt.Errorf("the iteration broke off, its result is incomplete: %w", out.Err)
			out.ResumeKey = resumeKey(err)
			return out
		}
	}
	return nil
}

// resumeKey returns the key from which the error of a stream says that an iteration may
// be resumed; nil if it says none.
func resumeKey(err error) []byte {
	key, err := base64.StdEncoding.DecodeString(peer.ResumeOf(err)[kv.ResumeStartKey])
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}

// yieldPairs yields the pairs of a message: a batch, or a single pair from a server that
// does not know batches. It reports whether the consumer wants more.
func yieldPairs(resp *serverpb.IterateResponse, yield func(Pair, error) bool) bool {
	if len(resp.GetKey()) > 0 && !yield(Pair{resp.GetKey(), resp.GetValue(), expiry(resp.GetExpireTS())}, nil) {
		return false
	}
	for _, p := range resp.GetPairs() {
		if !yield(Pair{p.GetKey(), p.GetValue(), expiry(p.GetExpireTS())}, nil) {
			return false
		}
	}
	return true
}
