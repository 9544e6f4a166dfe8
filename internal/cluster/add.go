package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/task"
)

// newcomer is a node that is being added.
type newcomer struct {
	id uint64
	// address is where it speaks Raft.
	address string
	// nonVoting leaves it without a vote.
	nonVoting bool
	// waits reports whether it waits for an invitation, on the disk that has uuid.
	waits bool
	uuid  string
}

// advice says what to do if the newcomer has not got its vote yet.
func (n *newcomer) advice() string {
	if n.nonVoting {
		return ""
	}
	return ": add it again to have it promoted"
}

// AddNode implements DKVCluster.
func (c *Cluster) AddNode(ctx context.Context, r *serverpb.AddNodeRequest) (*serverpb.Status, error) {
	address, err := bootstrap.ParseURL(r.GetNodeUrl())
	if err != nil {
		return reply(asError(err))
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	ctx, end := c.tasks.Begin(ctx, task.Join, bootstrap.FormatURL(address))
	defer end()
	var ch change
	return reply(ch.outcome(c.exclusively(ctx, func() error {
		return c.add(ctx, &ch, newcomer{address: address, nonVoting: r.GetNonVoting()})
	})))
}

// add makes a node a member of all vBuckets, with a vote or without. Each step finds out
// whether it has been made, so that an interrupted change is simply made again.
func (c *Cluster) add(ctx context.Context, ch *change, n newcomer) error {
	task.Step(ctx, "enters it into the log", "", 0)
	if err := c.enlist(ctx, ch, &n); err != nil {
		return err
	}
	for _, l := range c.logs[1:] {
		if err := c.follow(ctx, ch, l, n); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
	}
	if n.waits {
		if err := ch.step(func() error { return c.invite(ctx, n) }); err != nil {
			return err
		}
	}
	task.Step(ctx, "waits until it has caught up", task.VBuckets, uint64(len(c.logs)))
	for _, l := range c.logs {
		if err := c.settle(ctx, ch, l, n); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
		task.Add(ctx, 1)
	}
	c.log.Info("added a member", "member", n.id, "address", n.address, "voting", !n.nonVoting)
	return nil
}

// enlist chooses the replica id of a newcomer and makes it follow the first vBucket
// under it. Two members that enlist nodes at the same moment may choose the same id:
// the log gives it to one node, and the other takes the next.
func (c *Cluster) enlist(ctx context.Context, ch *change, n *newcomer) error {
	for {
		if err := c.place(ctx, n); err != nil {
			return err
		}
		err := c.follow(ctx, ch, c.first(), *n)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, errTaken) || !n.waits:
			return fmt.Errorf("vBucket %s: %w", c.first().VBucket, err)
		}
		if m := c.first().Members()[n.id]; m.UUID == n.uuid && m.RaftAddress == n.address {
			c.forget(ctx, c.first(), n.id)
		}
	}
}

// place finds the replica id that a newcomer has or will have, and whether it waits for
// an invitation.
func (c *Cluster) place(ctx context.Context, n *newcomer) error {
	members, err := c.membership(ctx)
	if err != nil {
		return err
	}
	url := bootstrap.FormatURL(n.address)
	hello, err := c.client.Probe(ctx, url)
	present, is := members.At(n.address)
	switch {
	case err != nil && is:
		// It runs Raft already, or is down: all that is left is to wait for it.
		n.id = present.ID
		return nil
	case err != nil:
		return asError(err)
	case is && c.diskOf(present) == "":
		return kv.Errorf(kv.Precondition, "replica %d at %s has not announced itself yet, so that its disk is not known, "+
			"and an empty disk must not take its number: start that node (and the founder of the cluster, if it is down), "+
			"or remove it (dkvctl -removeNode %s) and add it again", present.ID, url, url)
	case is && c.diskOf(present) != hello.UUID:
		return kv.Errorf(kv.Precondition, "%s", bootstrap.LostDisk(present.ID, url))
	case !hello.Joining:
		return kv.Errorf(kv.Precondition, "the node at %s waits to form a cluster of its own; start it with --nexus-join to have it added to this one", url)
	}
	if err := hello.Fits(c.joinTerms()); err != nil {
		return asError(err)
	}
	if err := c.sameTime(ctx, url, &hello); err != nil {
		return err
	}
	n.waits, n.uuid = true, hello.UUID
	if n.id = present.ID; is {
		return nil
	}
	n.id, err = c.reserve(ctx, &members, n.address, n.uuid)
	return err
}

// diskOf returns the uuid of the disk that a member is bound to; empty while it is not
// known. What another node's attempt has written under the member's number does not
// count. The founder knows the disks of the first members before they announce them.
func (c *Cluster) diskOf(p replica.Peer) string {
	if p.Member.UUID != "" && p.Member.RaftAddress == p.Address {
		return p.Member.UUID
	}
	if p.ID == c.self.Replica {
		return c.self.UUID
	}
	if c.self.Members[p.ID] != bootstrap.FormatURL(p.Address) {
		return ""
	}
	return c.self.Bound()[p.ID]
}

// reserve gives a disk a replica id that no other disk ever had, in any vBucket, and
// writes that into the log first, so that the same disk gets the same id again.
func (c *Cluster) reserve(ctx context.Context, first *replica.Membership, address, uuid string) (uint64, error) {
	id := first.NextID()
	for _, l := range c.logs {
		m, err := l.Membership(ctx)
		if err != nil {
			return 0, err
		}
		id = max(id, m.NextID())
	}
	for known, member := range c.first().Members() {
		if member.UUID == uuid && member.RaftAddress == address && !slices.Contains(first.Removed, known) {
			return known, nil
		}
		id = max(id, known+1)
	}
	err := c.first().SetMember(ctx, id, replica.Member{RaftAddress: address, UUID: uuid})
	return id, err
}

// errTaken means that a replica id is that of a node at another address.
var errTaken = errors.New("the replica id is taken")

// follow makes a replica a member of a vBucket, without a vote. Its error wraps errTaken
// if the id is another node's.
func (c *Cluster) follow(ctx context.Context, ch *change, l Log, n newcomer) error {
	return c.retry(ctx, func() error {
		m, err := l.Membership(ctx)
		if err != nil {
			return err
		}
		if p, is := m.At(n.address); is {
			return n.already(p)
		}
		for _, p := range m.Peers {
			if p.ID == n.id {
				return kv.Errorf(kv.Precondition, "%w: replica %d is at %s, not %s", errTaken, n.id, p.Address, n.address)
			}
		}
		if slices.Contains(m.Removed, n.id) {
			return kv.Errorf(kv.Precondition, "replica %d was removed from it, and its number is never used again: remove the node (dkvctl -removeNode %s), "+
				"then start it on an empty data folder with --nexus-join and add it again", n.id, bootstrap.FormatURL(n.address))
		}
		if err := c.cut(ctx, l, m.Peers); err != nil {
			return err
		}
		return ch.step(func() error { return l.Add(ctx, n.id, n.address, m.Version) })
	})
}

// cut has the other voting members take a snapshot of a log that began with an earlier
// state, as Add does here: a leader that still has all of the log would send a new member the
// entries without that state. A member that does not answer is left out, unless it leads.
func (c *Cluster) cut(ctx context.Context, l Log, peers []replica.Peer) error {
	if !l.Continues() {
		return nil
	}
	ctx, err := route.Forwarded.Set(ctx)
	if err != nil {
		return err
	}
	for _, p := range peers {
		leader := l.Owner().ID
		needed := leader == 0 || leader == p.ID
		if p.ID == c.self.Replica || !p.Voting || !needed && c.looked.Load() && !c.answers(p.ID) {
			continue
		}
		err := c.cutAt(ctx, p.Member.Address, l.VBucket)
		switch {
		case err != nil && needed:
			return kv.Errorf(kv.Unavailable, "member %d has to take a snapshot before another one is added: %w", p.ID, err)
		case err != nil:
			c.log.Warn("a member takes no snapshot before another one is added", "member", p.ID, "vbucket", l.VBucket, "error", err)
		}
	}
	return nil
}

// cutTimeout is how long a member may take to make its state durable and to cut its log.
const cutTimeout = 10 * time.Second

func (c *Cluster) cutAt(ctx context.Context, address, vBucket string) error {
	if address == "" {
		return errors.New("it has not announced its gRPC address yet")
	}
	ctx, cancel := context.WithTimeout(ctx, cutTimeout)
	defer cancel()
	return c.pool.Call(ctx, address, serverpb.DKVCluster_Snapshot_FullMethodName, &serverpb.SnapshotRequest{VBucket: vBucket}, new(serverpb.Status))
}

// already returns an error unless the peer at the newcomer's address is what it is to be.
func (n *newcomer) already(p replica.Peer) error {
	switch {
	case p.ID != n.id:
		return kv.Errorf(kv.Precondition, "replica %d is at %s already; remove the node first", p.ID, n.address)
	case p.Voting && n.nonVoting:
		return kv.Errorf(kv.Precondition, "member %d has a vote, which cannot be taken back: remove the node, "+
			"then start it on an empty data folder with --nexus-join and add it again", p.ID)
	}
	return nil
}

// invite tells a newcomer which replica it is. It starts without a vote, and always will:
// replaying the log gives it the vote that it gets later.
func (c *Cluster) invite(ctx context.Context, n newcomer) error {
	err := c.client.Invite(ctx, bootstrap.FormatURL(n.address), bootstrap.Invitation{
		UUID:       n.uuid,
		Terms:      c.joinTerms(),
		Deployment: c.self.Deployment,
		Replica:    n.id,
		Join:       true,
		NonVoting:  true,
		Addresses:  c.addresses(),
	})
	if err != nil {
		return asError(fmt.Errorf("%w; it is listed without a vote and follows once it is invited: add it again, or remove it", err))
	}
	return nil
}
