package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// AddNode implements DKVCluster.
func (c *Cluster) AddNode(ctx context.Context, r *serverpb.AddNodeRequest) (*serverpb.Status, error) {
	address, err := bootstrap.ParseURL(r.GetNodeUrl())
	if err != nil {
		return nil, asError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if err := c.exclusively(ctx, func() error { return c.add(ctx, address) }); err != nil {
		return nil, err
	}
	return &serverpb.Status{}, nil
}

// add makes the node at a Raft address a voting member of all vBuckets. Each step
// finds out whether it was done before, so that an attempt that was cut short is
// simply made again.
func (c *Cluster) add(ctx context.Context, address string) error {
	id, member, err := c.enlist(ctx, address)
	if err != nil {
		return err
	}
	for _, l := range c.logs[1:] {
		if err := c.follow(ctx, l, id, address); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
	}
	if member != nil {
		if err := c.invite(ctx, address, id, member.UUID); err != nil {
			return err
		}
	}
	for _, l := range c.logs {
		if err := c.promote(ctx, l, id, address); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
	}
	c.log.Info("added a member", "member", id, "address", address)
	return nil
}

// enlist settles the replica id of the node at an address and makes it follow the
// first vBucket under that. Where two members enlist nodes at the same moment they
// may choose one id: the log lets one node have it, and the other takes the next.
func (c *Cluster) enlist(ctx context.Context, address string) (uint64, *bootstrap.Hello, error) {
	for {
		id, member, err := c.place(ctx, address)
		if err != nil {
			return 0, nil, err
		}
		err = c.follow(ctx, c.first(), id, address)
		switch {
		case err == nil:
			return id, member, nil
		case !errors.Is(err, errTaken) || member == nil:
			return 0, nil, fmt.Errorf("vBucket %s: %w", c.first().VBucket, err)
		}
		if c.first().Members()[id].UUID == member.UUID {
			c.forget(ctx, c.first(), id)
		}
	}
}

// place finds the replica id that the node at an address has or shall have. The
// node is not nil where it waits for an invitation.
func (c *Cluster) place(ctx context.Context, address string) (uint64, *bootstrap.Hello, error) {
	members, err := c.membership(ctx)
	if err != nil {
		return 0, nil, err
	}
	url := bootstrap.FormatURL(address)
	hello, err := c.client.Probe(ctx, url)
	present, is := members.At(address)
	switch {
	case err != nil && is:
		// It runs Raft already, or is down: what is left to do is to wait for it.
		return present.ID, nil, nil
	case err != nil:
		return 0, nil, asError(err)
	case is && present.Member.UUID != "" && present.Member.UUID != hello.UUID:
		return 0, nil, kv.Errorf(kv.Precondition, "%s", bootstrap.LostDisk(present.ID, url))
	case !hello.Joining:
		return 0, nil, kv.Errorf(kv.Precondition, "the node at %s waits to form a cluster of its own; start it with --nexus-join to have it added to this one", url)
	}
	if err := hello.Fits(c.terms); err != nil {
		return 0, nil, asError(err)
	}
	if is {
		return present.ID, &hello, nil
	}
	id, err := c.reserve(ctx, &members, address, hello.UUID)
	return id, &hello, err
}

// reserve gives a disk a replica id that no other ever had, in any vBucket, and
// writes that down first: the same disk gets the same id again.
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
		if member.UUID == uuid && !slices.Contains(first.Removed, known) {
			return known, nil
		}
		id = max(id, known+1)
	}
	err := c.first().SetMember(ctx, id, replica.Member{RaftAddress: address, UUID: uuid})
	return id, err
}

// errTaken means that a replica id is that of a node at another address.
var errTaken = errors.New("the replica id is taken")

// follow makes a replica a member of a vBucket, without a vote. Errors wrap
// errTaken where it cannot be.
func (c *Cluster) follow(ctx context.Context, l Log, id uint64, address string) error {
	return c.retry(ctx, func() error {
		m, err := l.Membership(ctx)
		if err != nil {
			return err
		}
		if p, is := m.At(address); is {
			if p.ID != id {
				return kv.Errorf(kv.Precondition, "replica %d is at %s already; remove the node first", p.ID, address)
			}
			return nil
		}
		for _, p := range m.Peers {
			if p.ID == id {
				return kv.Errorf(kv.Precondition, "%w: replica %d is at %s, not %s", errTaken, id, p.Address, address)
			}
		}
		if slices.Contains(m.Removed, id) {
			return kv.Errorf(kv.Precondition, "replica %d was put out of it and can never come back: remove the node (dkvctl -removeNode %s), "+
				"then start it on an empty data folder with --nexus-join and add it again", id, bootstrap.FormatURL(address))
		}
		return l.Add(ctx, id, address, m.Version)
	})
}

// invite tells the node which replica it is.
func (c *Cluster) invite(ctx context.Context, address string, id uint64, uuid string) error {
	err := c.client.Invite(ctx, bootstrap.FormatURL(address), bootstrap.Invitation{
		UUID:       uuid,
		Terms:      c.terms,
		Deployment: c.self.Deployment,
		Replica:    id,
		Join:       true,
		NonVoting:  true,
	})
	if err != nil {
		return asError(fmt.Errorf("%w; it follows without a vote as soon as it is there: try again, or remove it", err))
	}
	return nil
}

// promote gives a replica a vote once it has caught up. One that has its vote
// already, and may be down, is not waited for.
func (c *Cluster) promote(ctx context.Context, l Log, id uint64, address string) error {
	caughtUp := false
	return c.retry(ctx, func() error {
		m, err := l.Membership(ctx)
		if err != nil {
			return err
		}
		if p, is := m.At(address); is && p.Voting {
			return nil
		}
		if !caughtUp {
			if err := c.caughtUp(ctx, l, id, l.Status().Applied); err != nil {
				return err
			}
			caughtUp = true
		}
		return l.Promote(ctx, id, address, m.Version)
	})
}

const (
	catchUpPoll    = 100 * time.Millisecond
	catchUpCall    = 2 * time.Second
	progressReport = 10 * time.Second
)

// caughtUp waits until a replica has applied what was applied here.
func (c *Cluster) caughtUp(ctx context.Context, l Log, id uint64, goal kv.Index) error {
	reported := time.Now()
	for {
		applied, err := c.appliedAt(ctx, l, id)
		if err == nil && applied >= goal {
			return nil
		}
		if time.Since(reported) > progressReport {
			reported = time.Now()
			c.log.Info("waiting for a new member to catch up", "member", id, "vbucket", l.VBucket, "applied", applied, "of", goal, "error", err)
		}
		if !sleep(ctx, catchUpPoll) {
			if err == nil {
				err = fmt.Errorf("it has applied %d of %d", applied, goal)
			}
			return kv.Errorf(kv.Unavailable, "member %d has not caught up yet (%w); it goes on catching up without a vote: add it again to have it promoted", id, err)
		}
	}
}

// appliedAt asks a member how far a vBucket is there.
func (c *Cluster) appliedAt(ctx context.Context, l Log, id uint64) (kv.Index, error) {
	ctx, cancel := context.WithTimeout(ctx, catchUpCall)
	defer cancel()
	status, err := c.statusOf(ctx, id)
	if err != nil {
		return 0, err
	}
	for _, v := range status.GetVBuckets() {
		if v.GetVBucket() == l.VBucket {
			return v.GetAppliedIndex(), nil
		}
	}
	return 0, fmt.Errorf("it knows no vBucket %s", l.VBucket)
}

// statusOf asks a member how it is.
func (c *Cluster) statusOf(ctx context.Context, id uint64) (*serverpb.NodeStatusResponse, error) {
	member := c.first().Members()[id]
	if member.Address == "" {
		return nil, fmt.Errorf("member %d has not said yet where it serves", id)
	}
	out := new(serverpb.NodeStatusResponse)
	if err := c.ask(ctx, member.Address, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ask calls another member, as soon as it can be reached.
func (c *Cluster) ask(ctx context.Context, address, method string, req, resp any) error {
	p, err := c.pool.Peer(address)
	if err != nil {
		return err
	}
	if err := p.Await(ctx); err != nil {
		return kv.Errorf(kv.Unavailable, "node %s cannot be reached: %w", address, err)
	}
	return p.Invoke(ctx, method, req, resp)
}

// retryPause is the time between two attempts to change the membership: another
// change, or an election, is under way.
const retryPause = 50 * time.Millisecond

// retry calls f again while it fails for a reason that passes.
func (c *Cluster) retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || kv.KindOf(err) != kv.Unavailable || !sleep(ctx, retryPause) {
			return err
		}
	}
}
