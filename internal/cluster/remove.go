package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/task"
)

// RemoveNode implements DKVCluster.
func (c *Cluster) RemoveNode(ctx context.Context, r *serverpb.RemoveNodeRequest) (*serverpb.Status, error) {
	address, err := bootstrap.ParseURL(r.GetNodeUrl())
	if err != nil {
		return reply(asError(err))
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	ctx, end := c.tasks.Begin(ctx, task.Removal, bootstrap.FormatURL(address))
	defer end()
	if address == c.self.Address() {
		return reply(c.removeSelf(ctx, r))
	}
	var ch change
	return reply(ch.outcome(c.exclusively(ctx, func() error {
		return c.remove(ctx, &ch, address, r.GetForce())
	})))
}

// remove removes the node at a Raft address from all vBuckets.
func (c *Cluster) remove(ctx context.Context, ch *change, address string, force bool) error {
	task.Step(ctx, "asks which members answer", "", 0)
	members, err := c.membership(ctx)
	if err != nil {
		return err
	}
	gone, is := members.At(address)
	if !is {
		if gone, err = c.leftOver(ctx, address); err != nil {
			return err
		}
	}
	r := &removal{Cluster: c, gone: gone, force: force}
	// What is rejected for one vBucket is not begun in the others.
	for _, l := range c.logs {
		if err := r.mayLose(ctx, l, &members, gone); err != nil {
			return err
		}
	}
	task.Step(ctx, "removes it", task.VBuckets, uint64(len(c.logs)))
	// The first vBucket comes last: the next attempt takes the members from it.
	for i := len(c.logs) - 1; i >= 0; i-- {
		if err := r.from(ctx, ch, c.logs[i]); err != nil {
			return fmt.Errorf("vBucket %s: %w", c.logs[i].VBucket, err)
		}
		task.Add(ctx, 1)
	}
	c.log.Info("removed a member", "member", gone.ID, "address", address)
	return nil
}

// leftOver returns the newest replica at an address that other vBuckets than the first one have:
// another member was adding the node while it was removed.
func (c *Cluster) leftOver(ctx context.Context, address string) (newest replica.Peer, err error) {
	for _, l := range c.logs[1:] {
		m, err := l.Membership(ctx)
		if err != nil {
			return newest, fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
		if p, is := m.At(address); is && p.ID > newest.ID {
			newest = p
		}
	}
	if newest.ID == 0 {
		return newest, kv.Errorf(kv.NotFound, "no member has the address %s; dkvctl -listNodes lists them", bootstrap.FormatURL(address))
	}
	return newest, nil
}

// removeSelf asks another member to remove this node: a node may never learn the result
// of its own removal, since the others stop talking to it.
func (c *Cluster) removeSelf(ctx context.Context, r *serverpb.RemoveNodeRequest) error {
	members, err := c.membership(ctx)
	if err != nil {
		return err
	}
	if self, is := members.At(c.self.Address()); is && self.Voting && members.Voters() == 1 {
		return errOnlyVoter
	}
	up := c.answering(ctx, members.Peers)
	for _, p := range members.Peers {
		if p.Voting && takesPart(vBucketIn(up[p.ID], c.first().VBucket)) {
			task.Step(ctx, "has another member remove it: "+p.Member.Address, "", 0)
			return c.pool.Call(ctx, p.Member.Address, serverpb.DKVCluster_RemoveNode_FullMethodName, r, new(serverpb.Status))
		}
	}
	return kv.Errorf(kv.Unavailable, "no other member answers that could remove this one: start one first")
}

var errOnlyVoter = kv.Errorf(kv.Precondition, "this is the only member with a vote: without it the cluster is lost. Stop the node instead")

// removal is the removal of one member.
type removal struct {
	*Cluster
	gone  replica.Peer
	force bool

	// up is what the other members said that answered when they were last asked.
	up    map[uint64]*serverpb.NodeStatusResponse
	asked time.Time
}

// askAgain is how long an answer to which members are up counts: long enough for
// vBuckets that follow each other at once.
const askAgain = time.Second

// mayLose rejects a removal that would leave no majority of a vBucket whose members are
// m; gone is the member to remove as m lists it. A member of which the replica has stopped counts for
// none, although its node answers.
func (r *removal) mayLose(ctx context.Context, l Log, m *replica.Membership, gone replica.Peer) error {
	if !gone.Voting {
		return nil
	}
	if m.Voters() == 1 {
		return errOnlyVoter
	}
	if r.force {
		return nil
	}
	if r.up == nil || time.Since(r.asked) > askAgain {
		r.up, r.asked = r.answering(ctx, m.Peers), time.Now()
	}
	rest, up := m.Voters()-1, 0
	for _, p := range m.Peers {
		if p.Voting && p.ID != gone.ID && r.serves(l, p.ID) {
			up++
		}
	}
	if up > rest/2 {
		return nil
	}
	return kv.Errorf(kv.Precondition, "of the %d voting members that would be left only %d answer and take part in the log of vBucket %s, which is no majority: "+
		"start or repair others first (dkvctl -status shows them), or use -force", rest, up, l.VBucket)
}

// serves reports whether a member answered when it was last asked and takes part in a log. This node
// does: it has just been told by a majority who the members are.
func (r *removal) serves(l Log, id uint64) bool {
	return id == r.self.Replica || takesPart(vBucketIn(r.up[id], l.VBucket))
}

// from removes the replica from one vBucket. One that leads hands over first. Whether a
// majority is left is judged by the membership that the removal changes: the log rejects
// a removal if another change came first, and it is then judged again.
func (r *removal) from(ctx context.Context, ch *change, l Log) error {
	return r.retry(ctx, func() error {
		m, err := l.Membership(ctx)
		if err != nil {
			return err
		}
		gone, is := m.At(r.gone.Address)
		// One with a lesser number is left over from before; see leftOver. One with a greater
		// number has been added since.
		if !is || gone.ID > r.gone.ID {
			r.forget(ctx, l, r.gone.ID) // an interrupted attempt may not have
			return nil
		}
		if err := r.mayLose(ctx, l, &m, gone); err != nil {
			return err
		}
		if l.Owner().ID == gone.ID && m.Voters() > 1 {
			if err := r.handOver(ctx, l, 0); err != nil {
				r.log.Warn("a member that is being removed does not hand over", "member", gone.ID, "vbucket", l.VBucket, "error", err)
			}
		}
		if err := ch.step(func() error { return l.Remove(ctx, gone.ID, m.Version) }); err != nil {
			return err
		}
		r.forget(ctx, l, gone.ID)
		return nil
	})
}

// forget deletes a replica's record. One that stays does no harm.
func (c *Cluster) forget(ctx context.Context, l Log, id uint64) {
	if _, there := l.Members()[id]; !there {
		return
	}
	if err := l.SetMember(ctx, id, replica.Member{}); err != nil {
		c.log.Debug("a removed member's record stays", "member", id, "vbucket", l.VBucket, "error", err)
	}
}
