package raft

import (
	"context"
	"errors"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func (c *cluster) seal(promotion string) (res command.Result) {
	c.t.Helper()
	c.atOwner("sealed", func(owner *node) (err error) {
		res, err = owner.Propose(context.Background(), &command.Command{Kind: command.Seal, Expect: []byte(promotion)})
		return err
	})
	return res
}

// wantSealed waits until all nodes that are up have applied a seal, or its end ("").
func (c *cluster) wantSealed(promotion string) {
	c.t.Helper()
	testkit.Eventually(c.t, "sealed for "+promotion, func() bool {
		for _, n := range c.nodes {
			if n.Replica != nil && n.state.Machine().Sealed() != promotion {
				return false
			}
		}
		return true
	})
}

// wantSealRejects fails unless a node that owns the log, or leads it, rejects mutations and
// linearizable reads for a seal.
func (n *node) wantSealRejects(ctx context.Context) {
	n.c.t.Helper()
	_, err := n.Propose(ctx, replicatest.Put("k", "later"))
	if !errors.Is(err, replica.ErrSealed) || kv.OutcomeOf(err) != kv.NotApplied {
		n.c.t.Errorf("a put was answered with %v", err)
	}
	_, _, _, err = n.Get(ctx, []byte("k"), kv.ReadOptions{Level: kv.Linearizable})
	if kv.KindOf(err) != kv.Unavailable && kv.KindOf(err) != kv.NotOwner {
		n.c.t.Errorf("a linearizable read was answered with %v", err)
	}
}

// The owner of a sealed log answers nothing, and no other member becomes the owner; when the
// promotion is given up, any member ends the seal, and the log has an owner again.
func TestSealedLogHasNoNewOwner(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	first := c.seal("p")
	c.wantSealed("p")
	owner := c.owner()
	owner.wantSealRejects(t.Context())
	if again := c.seal("p"); again.Index != first.Index {
		t.Errorf("sealed again at %d, at %d before", again.Index, first.Index)
	}
	left := c.follower()
	owner.shutdown()
	var next *node
	testkit.Eventually(t, "another leader", func() bool {
		for _, n := range c.nodes {
			if n.Replica != nil && n.Owner().Self {
				next = n
			}
		}
		return next != nil
	})
	next.wantSealRejects(t.Context())
	if e := next.state.Machine().Epoch(); e.Owner != owner.id {
		t.Errorf("epoch %+v was begun in a sealed log", e)
	}
	testkit.Eventually(t, "the seal ends", func() bool {
		_, err := left.Propose(t.Context(), &command.Command{Kind: command.Unseal, Expect: []byte("p")})
		return err == nil
	})
	c.wantSealed("")
	c.put("k", "w")
	c.want("k", "w")
}

// Nothing seals a log that a member would not understand.
func TestSealWaitsForTheFormat(t *testing.T) {
	formats := map[uint64]uint32{1: 4, 2: 4, 3: 3}
	c := newCluster(t, 3, of(formats))
	c.finish(3)
	for _, kind := range []command.Kind{command.Seal, command.Unseal, command.SetStandbys} {
		_, err := c.owner().Propose(t.Context(), &command.Command{Kind: kind, Expect: []byte("p")})
		replicatest.WantError(t, err, kv.Precondition, kv.NotApplied)
	}
	c.nodes[2].shutdown()
	formats[3] = 4
	c.nodes[2].start()
	c.finish(4)
	c.seal("p")
}
