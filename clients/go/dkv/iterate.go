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

// Range says what an iteration walks over.
type Range struct {
	// Prefix is that of all keys; empty means every key.
	Prefix []byte
	// Start is the first key, inclusive; it begins with Prefix. In reverse the
	// walk goes downwards from it.
	Start []byte
	// Limit is the most pairs to return; 0 means all.
	Limit uint64
	// Reverse walks from the greatest key to the least.
	Reverse bool
	// KeysOnly leaves out the values.
	KeysOnly bool
}

// Iterate walks over keys in byte order; those of a vBucket are of one state. It
// is linearizable unless an option says otherwise.
//
// The walk lasts as long as it makes progress: the client's time limit holds for
// each message, and the context for all. An error is the last that comes, with an
// empty pair; a walk that broke off in the middle is not resumed, since it would go
// on in another state. Of one that the server ended since the loop took nothing for
// long, Error.ResumeKey says where another one may go on. Leaving the loop ends the request.
func (c *Client) Iterate(ctx context.Context, r Range, opts ...ReadOption) iter.Seq2[Pair, error] {
	o := readOptionsOf(opts)
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
	return func(yield func(Pair, error) bool) {
		if err := c.iterate(ctx, req, o.level == Sequential, yield); err != nil {
			yield(Pair{}, err)
		}
	}
}

// errStalled ends a stream that brings nothing for too long.
var errStalled = errors.New("no message within the time limit")

// iterate returns nil where the consumer has left.
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
	n := a.walker(nil, nil)
	for pause := firstPause; ; pause = nextPause(pause) {
		s, first, err := openWalk(ctx, n, req)
		if err == nil {
			return c.walk(s, first, n, limit, yield)
		}
		a.count++
		out := a.explain(n, err)
		if !a.mayRepeat(out, err, n) {
			return a.gaveUp(ctx, out)
		}
		c.learner.poke()
		if c.sleep(ctx, jitter(pause)) != nil {
			return a.gaveUp(ctx, out)
		}
		n = a.walker(n, err)
	}
}

// walker is the node for an iteration: where there are several vBuckets, a master,
// which holds them all.
func (a *attempts) walker(avoid *node, err error) *node {
	t := a.client.topology.Load()
	if len(t.vBuckets) > 1 {
		if n := cheapest(t.masters, t.near, avoid); n != nil {
			return n
		}
	}
	if err != nil && stale(err) {
		return t.forWrite(0, avoid)
	}
	return a.request.node(t, avoid)
}

// openWalk starts an iteration and waits for its first message, which is nil at
// the end of an empty one: what fails before is safe to try again.
func openWalk(ctx context.Context, n *node, req *serverpb.IterateRequest) (*peer.Stream, *serverpb.IterateResponse, error) {
	s, err := n.stream(ctx, serverpb.DKV_Iterate_FullMethodName, req)
	if err != nil {
		return nil, nil, err
	}
	first := new(serverpb.IterateResponse)
	switch err := s.Recv(first); {
	case errors.Is(err, io.EOF):
		return s, nil, nil
	case err != nil:
		return nil, nil, n.note(err)
	}
	return s, first, nil
}

// walk hands out what a stream brings.
func (c *Client) walk(s *peer.Stream, resp *serverpb.IterateResponse, n *node, limit *time.Timer, yield func(Pair, error) bool) error {
	for resp != nil {
		limit.Stop() // the consumer takes its time
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
			out := toError(err, n.name(), false)
			out.Err = fmt.Errorf("the iteration broke off, its result is incomplete: %w", out.Err)
			out.ResumeKey = resumeKey(err)
			return out
		}
	}
	return nil
}

// resumeKey is where the error of a stream says that an iteration may go on; nil where it
// does not.
func resumeKey(err error) []byte {
	key, err := base64.StdEncoding.DecodeString(peer.ResumeOf(err)[kv.ResumeStartKey])
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}

// yieldPairs hands out the pairs of a message, batched or, from a server that
// knows no batches, a single one. It tells whether the consumer wants more.
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
