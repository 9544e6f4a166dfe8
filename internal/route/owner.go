package route

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// AtOwner answers a unary request at the node that owns v: with here on this node, or by
// making the same call of the owner. If this node is the owner it costs nothing.
func AtOwner[Resp any](ctx context.Context, r *Router, v VBucket, c Call, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	owner := v.Owner()
	if owner.Self || r.keeps(c) {
		resp, err := here(ctx)
		if err == nil || !isNotOwner(err) || r.stays(ctx) {
			return resp, err
		}
		owner = replica.Owner{}
	} else if r.stays(ctx) {
		return nil, c.Explain(notOwner(v))
	}
	ctx, cancel := BeforeDeadline(ctx)
	defer cancel()
	all := []VBucket{v}
	if owner.Address == "" {
		return elsewhere(ctx, r, all, c, nil, req, here)
	}
	// Nearly always the owner is the one that is known here.
	r.count(c)
	resp := new(Resp)
	done, err := c.Remote(r.Ask(ctx, Leg{Owner: owner, VBuckets: all}, c, req, resp))
	switch {
	case !done:
		return elsewhere(ctx, r, all, c, err, req, here)
	case err != nil:
		return nil, err
	}
	return resp, nil
}

// elsewhere is AtOwner if a vBucket is owned by another node than it seemed, or by none. asked
// is the error of the node that was asked, if any.
func elsewhere[Resp any](ctx context.Context, r *Router, v []VBucket, c Call, asked error, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	var resp *Resp
	err := r.eachOwner(ctx, c, func() []VBucket { return v }, asked, func(legs []Leg) (done bool, err error) {
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
	return r.eachOwner(ctx, c, func() []VBucket { return vBuckets }, nil, serve)
}

// eachOwner is EachOwner of the vBuckets that are left at each attempt. asked is the error of
// an attempt that was made before, if any.
func (r *Router) eachOwner(ctx context.Context, c Call, left func() []VBucket, asked error, serve func([]Leg) (done bool, err error)) error {
	counted := asked != nil
	return c.repeat(ctx, func() (bool, error) {
		if err := asked; err != nil {
			asked = nil
			return false, err
		}
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
	err = r.eachOwner(ctx, c, func() []VBucket { return left }, nil, func(legs []Leg) (done bool, err error) {
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
