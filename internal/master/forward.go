package master

import "context"

// atOwner answers a unary request where v is owned: with here on this node, by a
// call of the owner otherwise. Where this node is the owner it costs nothing.
func atOwner[Resp any](ctx context.Context, r *Router, v VBucket, c call, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	if v.Owner().Self || r.keeps(c) {
		resp, err := here(ctx)
		if err == nil || !isNotOwner(err) || r.stays(ctx) {
			return resp, err
		}
	} else if r.stays(ctx) {
		return nil, c.explain(notOwner(v))
	}
	return elsewhere(ctx, r, v, c, req, here)
}

// elsewhere is atOwner where v was found to be owned by another node, or by none.
func elsewhere[Resp any](ctx context.Context, r *Router, v VBucket, c call, req any, here func(context.Context) (*Resp, error)) (*Resp, error) {
	ctx, cancel := beforeDeadline(ctx)
	defer cancel()
	var resp *Resp
	handed := false
	err := persist(ctx, c, func() (bool, error) {
		switch owner := v.Owner(); {
		case owner.Self:
			var err error
			resp, err = here(ctx)
			return served(err)
		case owner.Address == "":
			return false, noOwner(v)
		default:
			if !handed {
				handed = true
				r.count(c)
			}
			resp = new(Resp)
			return c.heard(r.ask(ctx, leg{owner: owner, vBuckets: []VBucket{v}}, c, req, resp))
		}
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
