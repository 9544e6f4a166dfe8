package cluster

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// RemoveNode implements DKVCluster.
func (c *Cluster) RemoveNode(ctx context.Context, r *serverpb.RemoveNodeRequest) (*serverpb.Status, error) {
	address, err := bootstrap.ParseURL(r.GetNodeUrl())
	if err != nil {
		return nil, asError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if address == c.self.Address() {
		err = c.removeSelf(ctx, r)
	} else {
		err = c.exclusively(ctx, func() error { return c.remove(ctx, address, r.GetForce()) })
	}
	if err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}

// remove puts the node at a Raft address out of all vBuckets.
func (c *Cluster) remove(ctx context.Context, address string, force bool) error {
	members, err := c.membership(ctx)
	if err != nil {
		return err
	}
	gone, is := members.At(address)
	if !is {
		return kv.Errorf(kv.NotFound, "no member has the address %s; dkvctl -listNodes lists them", bootstrap.FormatURL(address))
	}
	if err := c.mayLose(ctx, &members, gone, force); err != nil {
		return err
	}
	// The first vBucket last: it is what a next attempt goes by.
	for i := len(c.logs) - 1; i >= 0; i-- {
		if err := c.removeFrom(ctx, c.logs[i], gone); err != nil {
			return fmt.Errorf("vBucket %s: %w", c.logs[i].VBucket, err)
		}
	}
	c.log.Info("removed a member", "member", gone.ID, "address", address)
	return nil
}

// removeSelf has another member put this node out: what becomes of its own removal
// a node may never hear, since nobody tells it any more.
func (c *Cluster) removeSelf(ctx context.Context, r *serverpb.RemoveNodeRequest) error {
	members, err := c.membership(ctx)
	if err != nil {
		return err
	}
	if self, is := members.At(c.self.Address()); is && self.Voting && members.Voters() == 1 {
		return errOnlyVoter
	}
	for _, p := range members.Peers {
		if p.ID != c.self.Replica && p.Voting && c.reaches(ctx, p.ID) {
			return c.ask(ctx, p.Member.Address, serverpb.DKVCluster_RemoveNode_FullMethodName, r, new(serverpb.Status))
		}
	}
	return kv.Errorf(kv.Unavailable, "no other member answers that could remove this one: bring one up first")
}

var errOnlyVoter = kv.Errorf(kv.Precondition, "this is the only member with a vote; without it the cluster is gone. Stop the node instead")

// mayLose refuses a removal that would leave no majority.
func (c *Cluster) mayLose(ctx context.Context, m *replica.Membership, gone replica.Peer, force bool) error {
	if !gone.Voting {
		return nil
	}
	rest, up := 0, 0
	for _, p := range m.Peers {
		if !p.Voting || p.ID == gone.ID {
			continue
		}
		rest++
		if p.ID == c.self.Replica || c.reaches(ctx, p.ID) {
			up++
		}
	}
	switch {
	case rest == 0:
		return errOnlyVoter
	case up > rest/2 || force:
		return nil
	}
	return kv.Errorf(kv.Precondition, "of the %d voting members that would be left only %d answer, which is no majority: "+
		"bring others up first, or say -force", rest, up)
}

// reaches tells whether a member answers now.
func (c *Cluster) reaches(ctx context.Context, id uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, catchUpCall)
	defer cancel()
	_, err := c.statusOf(ctx, id)
	return err == nil
}

// removeFrom puts a replica out of one vBucket. One that leads hands over first.
func (c *Cluster) removeFrom(ctx context.Context, l Log, gone replica.Peer) error {
	return c.retry(ctx, func() error {
		m, err := l.Membership(ctx)
		if err != nil {
			return err
		}
		if _, is := m.At(gone.Address); !is {
			c.forget(ctx, l, gone.ID) // an attempt that was cut short may not have
			return nil
		}
		if l.Owner().ID == gone.ID && m.Voters() > 1 {
			if err := c.handOver(ctx, l, 0); err != nil {
				c.log.Warn("a member that is being removed does not hand over", "member", gone.ID, "vbucket", l.VBucket, "error", err)
			}
		}
		if err := l.Remove(ctx, gone.ID, m.Version); err != nil {
			return err
		}
		c.forget(ctx, l, gone.ID)
		return nil
	})
}

// forget takes a replica's record away. One that stays does no harm.
func (c *Cluster) forget(ctx context.Context, l Log, id uint64) {
	if _, there := l.Members()[id]; !there {
		return
	}
	if err := l.SetMember(ctx, id, replica.Member{}); err != nil {
		c.log.Debug("a removed member's record stays", "member", id, "vbucket", l.VBucket, "error", err)
	}
}
