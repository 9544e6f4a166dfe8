package maintenance

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

var finishUpgradeCall = route.Call{Method: serverpb.DKVNode_FinishUpgrade_FullMethodName, Mutates: true}

// versioned is a replica whose log several nodes keep, possibly of different releases.
type versioned interface {
	Format() uint32
	NewestFormat() uint32
	RaiseFormat(ctx context.Context, to uint32) error
}

// Versions returns the version of the cluster, 0 without a Raft log, and the newest one that
// this release understands. Logs that differ count as the oldest.
func (n *Node) Versions() (cluster, understands uint32) {
	for _, v := range n.keyspace.All() {
		if raft, is := v.Replica.(versioned); is && (cluster == 0 || raft.Format() < cluster) {
			cluster = raft.Format()
		}
	}
	return cluster, command.Newest()
}

// FinishUpgrade implements DKVNode. If it fails for some vBuckets, the error says so; it may be
// repeated.
func (n *Node) FinishUpgrade(ctx context.Context, r *serverpb.FinishUpgradeRequest) (*serverpb.Status, error) {
	first, is := n.keyspace.All()[0].Replica.(versioned)
	if !is {
		return nil, n.noCluster()
	}
	// Each owner is told the same version, also one that does not know all members yet.
	to := &serverpb.FinishUpgradeRequest{Version: r.GetVersion()}
	if to.Version == 0 {
		to.Version = first.NewestFormat()
	}
	err := n.router.AtOwners(ctx, n.keyspace, finishUpgradeCall, to, func(ctx context.Context, v route.VBucket) error {
		raft, is := v.Replica.(versioned)
		if !is {
			return kv.Errorf(kv.Internal, "vBucket %s has no Raft log", v.Name)
		}
		return raft.RaiseFormat(ctx, to.GetVersion())
	})
	if err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}
