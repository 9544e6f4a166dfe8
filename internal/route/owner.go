package route

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// AtOwner answers a unary request at the node that owns v: with here on this node, or by
// making the same call of the owner. If this node is the owner it costs nothing.
func AtOwner[Resp any](ctx context.Context, r *Router, v VBucket, c Call, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	if v.Owner().Self || r.keeps(c) {
		resp, err := here(ctx)
		if err == nil || !isNotOwner(err) || r.stays(ctx) {
			return resp, err
		}
	} else if r.stays(ctx) {
		return nil, c.Explain(notOwner(v))
	}
	return elsewhere(ctx, r, v, c, req, here)
}

// elsewhere is AtOwner after v was found to be owned by another node, or by none.
func elsewhere[Resp any](ctx context.Context, r *Router, v VBucket, c Call, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	ctx, cancel := BeforeDeadline(ctx)
	defer cancel()
	var resp *Resp
	err := r.EachOwner(ctx, c, []VBucket{v}, func(legs []Leg) (done bool, err error) {
		if legs[0].Owner.Self {
			resp, err = here(ctx)
			return Local(err)
		}
		resp = new(Resp)
		return c.Remote(r.Ask(ctx, legs[0], c, req, resp))
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// EachOwner hands the legs of a request to serve, and again after the owners have changed,
// until serve is done or the context ends; its errors are those of Local and Remote.
func (r *Router) EachOwner(ctx context.Context, c Call, vBuckets []VBucket, serve func([]Leg) (done bool, err error)) error {
	return r.eachOwner(ctx, c, func() []VBucket { return vBuckets }, serve)
}

// eachOwner is EachOwner of the vBuckets that are left at each attempt.
func (r *Router) eachOwner(ctx context.Context, c Call, left func() []VBucket, serve func([]Leg) (done bool, err error)) error {
	counted := false
	return c.repeat(ctx, func() (bool, error) {
		legs, err := r.legs(ctx, c, left())
		if err != nil {
			return r.stays(ctx) || !isNotOwner(err), c.Explain(err)
		}
		if !counted && slices.ContainsFunc(legs, func(l Leg) bool { return !l.Owner.Self }) {
			counted = true
			r.count(c)
		}
		return serve(legs)
	})
}

// AtOwners makes a request that changes all vBuckets, each at its owner: here with do, which
// must be safe to repeat, and elsewhere by sending the same request. If it fails for some
// vBuckets only, the error says so.
func (r *Router) AtOwners(ctx context.Context, k *Keyspace, c Call, req proto.Message, do func(context.Context, VBucket) error) error {
	all, err := k.Requested(ctx)
	if err != nil {
		return WithOutcome(err)
	}
	ctx, cancel := BeforeDeadline(ctx)
	defer cancel()
	left := slices.Clone(all)
	begun := false // some may be done that a node was asked for and did not own all of by then
	err = r.eachOwner(ctx, c, func() []VBucket { return left }, func(legs []Leg) (done bool, err error) {
		for _, l := range legs {
			if l.Owner.Self {
				done, err = Local(doAll(ctx, &left, l, do))
			} else {
				done, err = c.Remote(r.Ask(ctx, l, c, req, new(serverpb.Status)))
				begun = begun || isNotOwner(err) && len(l.VBuckets) > 1
			}
			if err != nil {
				return done, err
			}
			left = without(left, l.VBuckets...)
		}
		return true, nil
	})
	if err != nil && (begun || len(left) < len(all)) && !isNotOwner(err) { // the sender of a forwarded request repeats it
		return partly(err, len(all)-len(left), len(all))
	}
	return err
}

// ownersAtOnce is how many vBuckets of a leg a request changes at a time: each mostly waits for an
// fsync, which a log does together for many, and a thousand in turn would take seconds.
const ownersAtOnce = 32

// doAll serves a leg on this node, and removes from left what is done. Of several errors it
// returns one with an unknown outcome, if there is one: the others may have had no effect.
func doAll(ctx context.Context, left *[]VBucket, l Leg, do func(context.Context, VBucket) error) error {
	var mu sync.Mutex // held for left and failed
	var failed error
	var g errgroup.Group
	g.SetLimit(ownersAtOnce)
	for _, v := range l.VBuckets {
		g.Go(func() error {
			err := do(ctx, v)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				*left = without(*left, v)
			case failed == nil, kv.OutcomeOf(err) == kv.Unknown:
				failed = WithOutcome(err)
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return no errors
	return failed
}

func without(from []VBucket, gone ...VBucket) []VBucket {
	return slices.DeleteFunc(slices.Clone(from), func(v VBucket) bool {
		return slices.ContainsFunc(gone, func(g VBucket) bool { return g.Name == v.Name })
	})
}
