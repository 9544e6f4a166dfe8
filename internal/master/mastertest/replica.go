package mastertest

import (
	"context"
	"sync/atomic"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
)

// NoOne is the owner of a vBucket that has none.
const NoOne = -1

// OwnedReplica is a replica that is told its owner, and serves mutations and linearizable reads
// only if that is its own node.
type OwnedReplica struct {
	*local.Replica
	cluster *Cluster
	node    int
	owner   atomic.Int64
	// OnOwner, if there is one, runs at each look for the owner, OnServe before
	// anything that only the owner does.
	OnOwner atomic.Pointer[func()]
	OnServe atomic.Pointer[func(context.Context) error]
}

// SetOwner lets only this replica know that a node owns its vBucket, or NoOne.
func (r *OwnedReplica) SetOwner(node int) { r.owner.Store(int64(node)) }

func (r *OwnedReplica) Owner() replica.Owner {
	if f := r.OnOwner.Load(); f != nil {
		(*f)()
	}
	switch owner := int(r.owner.Load()); owner {
	case NoOne:
		return replica.Owner{}
	case r.node:
		return replica.Owner{Self: true, ID: uint64(owner + 1)}
	default:
		return replica.Owner{ID: uint64(owner + 1), Address: r.cluster.Nodes[owner].Addr}
	}
}

func (r *OwnedReplica) serve(ctx context.Context) error {
	if int(r.owner.Load()) != r.node {
		return kv.Errorf(kv.NotOwner, "node %d is not the owner", r.node)
	}
	if f := r.OnServe.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (r *OwnedReplica) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := r.serve(ctx); err != nil {
		return command.Result{}, err
	}
	return r.Replica.Propose(ctx, c)
}

func (r *OwnedReplica) level(ctx context.Context, opts kv.ReadOptions) error {
	if opts.Level != kv.Linearizable {
		return nil
	}
	return r.serve(ctx)
}

func (r *OwnedReplica) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return kv.Pair{}, false, kv.ReadInfo{}, err
	}
	return r.Replica.Get(ctx, key, opts)
}

func (r *OwnedReplica) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Replica.MultiGet(ctx, keys, opts)
}

func (r *OwnedReplica) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Replica.View(ctx, opts)
}

// Hook sets one of a replica's functions.
func Hook[F any](at *atomic.Pointer[F], f F) { at.Store(&f) }
