package master

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

var (
	pauseCall  = call{method: serverpb.DKVNode_PauseWrites_FullMethodName, mutates: true}
	resumeCall = call{method: serverpb.DKVNode_ResumeWrites_FullMethodName, mutates: true}
)

// PauseWrites implements DKVNode.
func (n *Node) PauseWrites(ctx context.Context, _ *emptypb.Empty) (*serverpb.Status, error) {
	return n.SetPaused(ctx, true)
}

// ResumeWrites implements DKVNode.
func (n *Node) ResumeWrites(ctx context.Context, _ *emptypb.Empty) (*serverpb.Status, error) {
	return n.SetPaused(ctx, false)
}

// SetPaused refuses or admits mutations in all vBuckets, each at its owner. Where
// it fails for some of them it says so; it may be repeated.
func (n *Node) SetPaused(ctx context.Context, paused bool) (*serverpb.Status, error) {
	c := resumeCall
	if paused {
		c = pauseCall
	}
	return n.atOwners(ctx, c, &emptypb.Empty{}, func(ctx context.Context, v VBucket) error {
		_, err := v.Propose(ctx, &command.Command{Kind: command.SetPaused, Flag: paused})
		return err
	})
}

// atOwners has a request done in all vBuckets, each at its owner: here by do, which
// may be repeated, elsewhere by asking for the same. Where it fails for some of them
// the error says so.
func (n *Node) atOwners(ctx context.Context, c call, request proto.Message, do func(context.Context, VBucket) error) (*serverpb.Status, error) {
	all, err := n.keyspace.asked(ctx)
	if err != nil {
		return nil, withOutcome(err)
	}
	until, cancel := beforeDeadline(ctx)
	defer cancel()
	left, counted := slices.Clone(all), false
	err = persist(until, c, func() (done bool, err error) {
		legs, err := n.router.legs(ctx, c, left)
		if err != nil {
			return n.router.stays(ctx), withOutcome(err)
		}
		for _, l := range legs {
			if l.owner.Self {
				done, err = served(doAll(until, &left, l, do))
			} else {
				if !counted {
					counted = true
					n.router.count(c)
				}
				done, err = c.heard(n.router.ask(until, l, c, request, &serverpb.Status{}))
			}
			if err != nil {
				return done, err
			}
			left = without(left, l.vBuckets...)
		}
		return true, nil
	})
	if err == nil {
		return ok(), nil
	}
	if len(left) < len(all) && !isNotOwner(err) { // which only sends to another node
		err = partly(err, len(all)-len(left), len(all))
	}
	return nil, err
}

// doAll is a leg on this node; it takes from left what is done.
func doAll(ctx context.Context, left *[]VBucket, l leg, do func(context.Context, VBucket) error) error {
	for _, v := range l.vBuckets {
		if err := do(ctx, v); err != nil {
			return withOutcome(err)
		}
		*left = without(*left, v)
	}
	return nil
}

func without(from []VBucket, gone ...VBucket) []VBucket {
	return slices.DeleteFunc(slices.Clone(from), func(v VBucket) bool {
		return slices.ContainsFunc(gone, func(g VBucket) bool { return g.Name == v.Name })
	})
}

// partly is err after the request has had its effect on some vBuckets: it is not
// to be taken for one that had none.
func partly(err error, done, all int) error {
	kind, cause := kv.Internal, err
	if known := (*kv.Error)(nil); errors.As(err, &known) {
		kind, cause = known.Kind, known // whose text has no outcome yet
	}
	return withOutcome(kv.UnknownOutcome(kind,
		fmt.Errorf("%d of %d vBuckets are done, the next failed; repeat the request: %w", done, all, cause)))
}
