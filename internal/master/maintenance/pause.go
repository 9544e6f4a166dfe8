package maintenance

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/route"
)

var (
	pauseCall  = route.Call{Method: serverpb.DKVNode_PauseWrites_FullMethodName, Mutates: true}
	resumeCall = route.Call{Method: serverpb.DKVNode_ResumeWrites_FullMethodName, Mutates: true}
)

// PauseWrites implements DKVNode.
func (n *Node) PauseWrites(ctx context.Context, _ *emptypb.Empty) (*serverpb.Status, error) {
	return n.SetPaused(ctx, true)
}

// ResumeWrites implements DKVNode.
func (n *Node) ResumeWrites(ctx context.Context, _ *emptypb.Empty) (*serverpb.Status, error) {
	return n.SetPaused(ctx, false)
}

// SetPaused stops or admits mutations in all vBuckets, each at its owner. If it fails for some of
// them, the error says so; it may be repeated.
func (n *Node) SetPaused(ctx context.Context, paused bool) (*serverpb.Status, error) {
	c := resumeCall
	if paused {
		c = pauseCall
	}
	err := n.router.AtOwners(ctx, n.keyspace, c, &emptypb.Empty{}, func(ctx context.Context, v route.VBucket) error {
		_, err := v.Propose(ctx, &command.Command{Kind: command.SetPaused, Flag: paused})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}
