package raft

import (
	"context"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
)

// tooLong are commands with a record, or an id of a promotion, that is too long.
var tooLong = []command.Command{
	{Kind: command.Seal, Expect: make([]byte, command.MaxPromotion+1)},
	{Kind: command.Unseal, Expect: make([]byte, command.MaxPromotion+1)},
	{Kind: command.SetStandbys, Expect: make([]byte, command.MaxStandbys+1)},
	{Kind: command.SetTiming, Expect: make([]byte, command.MaxTiming+1)},
}

// Nothing gets into the log that its members could not read, whatever asks for it: it would stop
// all of them for good.
func TestNothingUnreadableIsProposed(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	for _, bad := range append([]command.Command{
		{Kind: command.Unseal},
		{Kind: command.SetSlave, Expect: []byte("no zone")},
		{Kind: command.SetMember},
		{Kind: command.CompareAndSet},
		{Kind: command.Write, Mutations: []kv.Mutation{{Value: []byte("of no key")}}},
		{Kind: command.Tick, Request: kv.RequestID{Client: 1, Sequence: 1}},
	}, tooLong...) {
		_, err := c.owner().Propose(t.Context(), &bad)
		replicatest.WantError(t, err, kv.Invalid, kv.NotApplied)
	}
	c.put("k", "w")
	c.want("k", "w")
}

// A log into which an earlier release has put a command that is too long goes on, at every member
// and after a restart: the command has no effect.
func TestTooLongCommandsHaveNoEffect(t *testing.T) {
	c := newCluster(t, 3)
	c.put("k", "v")
	for _, long := range tooLong {
		c.atOwner("an entry of an earlier release", func(owner *node) error {
			long.Fence = owner.state.Machine().Epoch().ID
			return owner.host.Use(func(nh *dragonboat.NodeHost) error {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := nh.SyncPropose(ctx, owner.session, long.Append(nil))
				return err
			})
		})
	}
	c.put("k", "w")
	c.want("k", "w")
	for _, n := range c.nodes {
		if record, _ := n.state.Machine().Standbys(); len(record) != 0 || n.state.Machine().Sealed() != "" {
			t.Errorf("member %d has a record of %d bytes, and the seal %q", n.id, len(record), n.state.Machine().Sealed())
		}
		n.shutdown()
		n.start()
	}
	index := c.put("k", "x")
	for _, n := range c.nodes {
		n.wantAt(index, "k", "x")
	}
}
