package dkv

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/api/serverpb"
)

// group holds the positions of the keys of one vBucket.
type group struct {
	vBucket int
	at      []int
}

// grouped groups n keys by vBucket.
func (t *topology) grouped(n int, key func(i int) []byte) []group {
	var out []group
	where := make([]int, len(t.vBuckets)) // in out, plus one
	for i := range n {
		v := t.of(key(i))
		if where[v] == 0 {
			out = append(out, group{vBucket: v})
			where[v] = len(out)
		}
		g := &out[where[v]-1]
		g.at = append(g.at, i)
	}
	return out
}

// ready returns the topology and ctx with the client's time limit.
func (c *Client) ready(ctx context.Context) (context.Context, context.CancelFunc, *topology, error) {
	ctx, cancel := c.bounded(ctx)
	if c.closed.Load() {
		cancel()
		return nil, nil, nil, errClosed()
	}
	t := c.topology.Load()
	if t == nil {
		var err error
		if t, err = c.awaitTopology(ctx); err != nil {
			cancel()
			return nil, nil, nil, err
		}
	}
	return ctx, cancel, t, nil
}

// MultiGet reads several keys, those of each vBucket from one state of it. It returns
// the pairs of those that exist, in the order of keys.
func (c *Client) MultiGet(ctx context.Context, keys [][]byte, opts ...ReadOption) ([]Pair, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	o := readOptionsOf(opts)
	ctx, cancel, t, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	groups := t.grouped(len(keys), func(i int) []byte { return keys[i] })
	if len(groups) > 1 && o.minIndex != 0 {
		return nil, errorf(ErrInvalid, "the keys are in %d vBuckets, each with its own indexes: leave out MinIndex, or read the keys of each vBucket in a call of their own", len(groups))
	}
	if len(groups) == 1 {
		found, err := c.multiGet(ctx, keys, o)
		return pairsOf(found), err
	}
	slots := make([]*serverpb.KVPair, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range groups {
		g.Go(func() error {
			part := make([][]byte, len(one.at))
			for i, at := range one.at {
				part[i] = keys[at]
			}
			found, err := c.multiGet(ctx, part, o)
			place(slots, one.at, part, found)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return pairsOf(slots), nil
}

// place puts the pairs that were found for keys, which are in the keys' order, into the
// slots of these keys.
func place(slots []*serverpb.KVPair, at []int, keys [][]byte, found []*serverpb.KVPair) {
	for i, key := range keys {
		if len(found) > 0 && bytes.Equal(found[0].GetKey(), key) {
			slots[at[i]], found = found[0], found[1:]
		}
	}
}

func pairsOf(found []*serverpb.KVPair) []Pair {
	out := make([]Pair, 0, len(found))
	for _, p := range found {
		if p != nil {
			out = append(out, Pair{Key: p.GetKey(), Value: p.GetValue(), Expires: expiry(p.GetExpireTS())})
		}
	}
	return out
}

// multiGet reads keys of one vBucket.
func (c *Client) multiGet(ctx context.Context, keys [][]byte, o readOptions) ([]*serverpb.KVPair, error) {
	req := &serverpb.MultiGetRequest{Keys: keys, ReadConsistency: o.consistency(), MinIndex: o.minIndex, MaxAge: o.maxAgeMillis()}
	resp := new(serverpb.MultiGetResponse)
	to := &request{method: serverpb.DKV_MultiGet_FullMethodName, key: keys[0], sequential: o.level == Sequential}
	err := c.call(ctx, to, req, resp)
	return resp.GetKeyValues(), err
}

// MultiPut sets several keys atomically and returns the log index of the write. The keys
// must be in one vBucket; otherwise it fails with ErrInvalid.
func (c *Client) MultiPut(ctx context.Context, pairs ...Pair) (index uint64, err error) {
	if len(pairs) == 0 {
		return 0, errorf(ErrInvalid, "there are no pairs to put")
	}
	return c.multiPut(ctx, pairs, false)
}

// MultiPutSplit is MultiPut for keys that may be in several vBuckets. The keys of each
// vBucket are written atomically, but not all of them together. If some could not be
// written, the error is ErrOutcomeUnknown, unless certainly none was. Nothing is sent if a key is
// empty; limits that are the servers' own, such as max-value-size, each server checks for the keys
// that it gets.
func (c *Client) MultiPutSplit(ctx context.Context, pairs ...Pair) error {
	if len(pairs) == 0 {
		return errorf(ErrInvalid, "there are no pairs to put")
	}
	for i := range pairs {
		if len(pairs[i].Key) == 0 {
			return errorf(ErrInvalid, "put %d of %d: key is empty", i+1, len(pairs))
		}
	}
	ctx, cancel, t, err := c.ready(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	groups := t.grouped(len(pairs), func(i int) []byte { return pairs[i].Key })
	errs := make([]error, len(groups))
	var g errgroup.Group
	for i, one := range groups {
		g.Go(func() error {
			part := make([]Pair, len(one.at))
			for k, at := range one.at {
				part[k] = pairs[at]
			}
			_, errs[i] = c.multiPut(ctx, part, true)
			return errs[i]
		})
	}
	if g.Wait() == nil {
		return nil
	}
	return splitError(errs)
}

// splitError returns the error of a request of which some parts failed.
func splitError(errs []error) error {
	var first *Error
	failed, unknown := 0, false
	for _, err := range errs {
		if e, is := err.(*Error); is {
			failed++
			unknown = unknown || e.OutcomeUnknown
			if first == nil {
				first = e
			}
		}
	}
	if len(errs) == 1 || failed == len(errs) && !unknown {
		return first
	}
	out := *first
	out.OutcomeUnknown = true
	out.Err = fmt.Errorf("%d of %d vBuckets are written, the rest: %w", len(errs)-failed, len(errs), first.Err)
	return &out
}

// multiPut writes to one vBucket. If the keys are in several after all, which a client
// of fixed addresses cannot know, the server splits the request or rejects it.
func (c *Client) multiPut(ctx context.Context, pairs []Pair, maySplit bool) (uint64, error) {
	req, resp := &serverpb.MultiPutRequest{PutRequest: make([]*serverpb.PutRequest, len(pairs)), MaySplit: maySplit, Ack: c.ackOf(writeOptions{})}, new(serverpb.PutResponse)
	puts := make([]serverpb.PutRequest, len(pairs)) // one allocation for all
	for i, p := range pairs {
		puts[i].Key, puts[i].Value, puts[i].ExpireTS = p.Key, p.Value, expireTSOf(p.Expires)
		req.PutRequest[i] = &puts[i]
	}
	to := &request{method: serverpb.DKV_MultiPut_FullMethodName, key: pairs[0].Key, mutates: true}
	req.RequestId = c.assignID(to, new(serverpb.RequestID))
	defer to.finish()
	err := c.call(ctx, to, req, resp)
	return resp.GetIndex(), err
}
