package cluster

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/internal/task"
)

// TransferLeader implements DKVCluster.
func (c *Cluster) TransferLeader(ctx context.Context, r *serverpb.TransferLeaderRequest) (*serverpb.Status, error) {
	ctx, end := c.tasks.Begin(ctx, task.Leaders, r.GetNodeUrl())
	defer end()
	var ch change
	return reply(ch.outcome(c.transfer(ctx, &ch, r)))
}

func (c *Cluster) transfer(ctx context.Context, ch *change, r *serverpb.TransferLeaderRequest) error {
	to := uint64(0)
	if r.GetNodeUrl() != "" {
		address, err := bootstrap.ParseURL(r.GetNodeUrl())
		if err != nil {
			return asError(err)
		}
		members, err := c.membership(ctx)
		if err != nil {
			return err
		}
		target, is := members.At(address)
		if !is {
			return kv.Errorf(kv.NotFound, "no member has the address %s; dkvctl -listNodes lists them", bootstrap.FormatURL(address))
		}
		to = target.ID
	}
	logs, err := c.logsOf(r.GetVBucket())
	if err != nil {
		return err
	}
	task.Step(ctx, "moves leaders", task.VBuckets, uint64(len(logs)))
	for _, l := range logs {
		if err := ch.step(func() error { return c.handOver(ctx, l, to) }); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
		task.Add(ctx, 1)
	}
	return nil
}

// logsOf returns the vBucket of a name, and all for an empty one.
func (c *Cluster) logsOf(vBucket string) ([]Log, error) {
	if vBucket == "" {
		return c.logs, nil
	}
	for i := range c.logs {
		if c.logs[i].VBucket == vBucket {
			return c.logs[i : i+1], nil
		}
	}
	return nil, kv.Errorf(kv.NotFound, "there is no vBucket %.64q; the first is %q and the last %q", vBucket, c.logs[0].VBucket, c.logs[len(c.logs)-1].VBucket)
}

// handOver makes another member lead a vBucket, by asking the one that leads it. It does not
// use route.AtOwner: what it needs is the leader by election, which may not hold the lease
// yet, and a hand-over that may have begun is not asked for again.
func (c *Cluster) handOver(ctx context.Context, l Log, to uint64) error {
	owner, err := c.awaitOwner(ctx, l)
	switch {
	case err != nil:
		return err
	case to != 0 && owner.ID == to:
		return nil
	case owner.ID == c.self.Replica:
		return unsure(l.TransferLeader(ctx, to))
	case route.Forwarded.In(ctx):
		return kv.Errorf(kv.Unavailable, "the leader is changing; retry")
	}
	req := &serverpb.TransferLeaderRequest{VBucket: l.VBucket}
	if to != 0 {
		m, err := c.membership(ctx)
		if err != nil {
			return err
		}
		for _, p := range m.Peers {
			if p.ID == to {
				req.NodeUrl = bootstrap.FormatURL(p.Address)
			}
		}
	}
	if ctx, err = route.Forwarded.Set(ctx); err != nil {
		return err
	}
	return c.pool.Call(ctx, owner.Address, serverpb.DKVCluster_TransferLeader_FullMethodName, req, new(serverpb.Status))
}

// unsure marks the error of a hand-over that may have begun, and may still succeed.
func unsure(err error) error {
	if err == nil || kv.KindOf(err) != kv.Unavailable {
		return err
	}
	return kv.UnknownOutcome(kv.Unavailable, err)
}

// ownerWait bounds how long a request waits for a known leader: an election, and the time
// that a new leader takes to announce its address.
const ownerWait = 5 * time.Second

// awaitOwner returns the leader of a vBucket, once its address is known.
func (c *Cluster) awaitOwner(ctx context.Context, l Log) (replica.Owner, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerWait)
	defer cancel()
	for {
		owner := l.Owner()
		switch {
		case owner.ID == c.self.Replica || owner.ID != 0 && owner.Address != "":
			return owner, nil
		case sleep.For(ctx, retryPause):
		case owner.ID == 0:
			return owner, kv.Errorf(kv.Unavailable, "there is no leader at the moment; retry")
		default:
			return owner, kv.Errorf(kv.Unavailable, "member %d leads and has not announced its gRPC address yet; retry", owner.ID)
		}
	}
}

// leadWait bounds how long Lead waits until this node owns the log.
const leadWait = 10 * time.Second

// Lead makes this node own a vBucket's log.
func (c *Cluster) Lead(ctx context.Context, vBucket string) error {
	ctx, cancel := context.WithTimeout(ctx, leadWait)
	defer cancel()
	for _, l := range c.logs {
		if l.VBucket != vBucket {
			continue
		}
		return c.retry(ctx, func() error {
			if err := c.handOver(ctx, l, c.self.Replica); err != nil {
				return err
			}
			if l.Owner().ID != c.self.Replica {
				return kv.Errorf(kv.Unavailable, "this node has not learned yet that it leads")
			}
			return nil
		})
	}
	return kv.Errorf(kv.NotFound, "there is no vBucket %q", vBucket)
}

// StepDown implements DKVCluster.
func (c *Cluster) StepDown(ctx context.Context, _ *emptypb.Empty) (*serverpb.Status, error) {
	ctx, end := c.tasks.Begin(ctx, task.Leaders, "")
	defer end()
	var ch change
	return reply(ch.outcome(c.stepDown(ctx, &ch)))
}

func (c *Cluster) stepDown(ctx context.Context, ch *change) error {
	led := 0
	task.Step(ctx, "hands its leaderships over", task.VBuckets, uint64(len(c.logs)))
	for _, l := range c.logs {
		task.Add(ctx, 1)
		if l.Owner().ID != c.self.Replica {
			continue
		}
		led++
		if err := ch.step(func() error { return unsure(l.TransferLeader(ctx, 0)) }); err != nil {
			return fmt.Errorf("vBucket %s: %w", l.VBucket, err)
		}
	}
	if led == 0 {
		return kv.Errorf(kv.Precondition, "this node leads no vBucket; ask the node that does (dkvctl -status shows it)")
	}
	return nil
}

// Snapshot implements DKVCluster.
func (c *Cluster) Snapshot(ctx context.Context, r *serverpb.SnapshotRequest) (*serverpb.Status, error) {
	logs, err := c.logsOf(r.GetVBucket())
	if err != nil {
		return reply(err)
	}
	ctx, end := c.tasks.Begin(ctx, task.Snapshot, r.GetVBucket())
	defer end()
	task.Step(ctx, "makes the state durable", task.VBuckets, uint64(len(logs)))
	var ch change
	for _, l := range logs {
		if err := ch.step(func() error { return l.Snapshot(ctx) }); err != nil {
			return reply(ch.outcome(fmt.Errorf("vBucket %s: %w", l.VBucket, err)))
		}
		task.Add(ctx, 1)
	}
	return reply(nil)
}

// balanceInterval is how often a node checks whether it leads too many vBuckets. Moving a
// leader costs its writers some milliseconds, so that one is moved at a time.
const balanceInterval = 10 * time.Second

// balance spreads the leaders of several vBuckets over the members.
func (c *Cluster) balance(ctx context.Context) {
	if len(c.logs) < 2 {
		return
	}
	for periodic.Wait(ctx, balanceInterval) {
		c.spread(ctx)
	}
}

// spread moves one leader to a member that leads fewer, if there is such a member. One that stops
// leads the fewest, and the last look may be older than its stop: it does not answer any more.
func (c *Cluster) spread(ctx context.Context) {
	l, to := c.surplus()
	if to == 0 {
		return
	}
	err := c.answersNow(ctx, to)
	if err == nil {
		err = l.TransferLeader(ctx, to)
	}
	if err != nil {
		c.log.Debug("a leader was not moved", "vbucket", l.VBucket, "to", to, "error", err)
		return
	}
	c.log.Info("moved a leader to spread the load", "vbucket", l.VBucket, "to", to)
}

// answersNow returns an error unless a member answers at this moment.
func (c *Cluster) answersNow(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	_, err := c.statusAt(ctx, c.first().Members()[id].Address)
	return err
}

// surplus returns a vBucket that this node leads and a member that leads at least
// two fewer, and could lead it at once; 0 for none. A vBucket that is being restored here stays: its
// next leader would drop what is restored.
func (c *Cluster) surplus() (Log, uint64) {
	leads := make(map[uint64]int)
	var movable []Log
	for _, l := range c.logs {
		owner := l.Owner()
		if owner.ID == 0 {
			return Log{}, 0 // not while a leader is being elected
		}
		leads[owner.ID]++
		if owner.ID == c.self.Replica && !l.Restoring() {
			movable = append(movable, l)
		}
	}
	peers := c.lastKnown().Peers
	for _, l := range movable {
		target, least := uint64(0), leads[c.self.Replica]-1
		for _, p := range peers {
			if p.Voting && p.ID != c.self.Replica && leads[p.ID] < least && c.fit(l.VBucket, p.ID) {
				target, least = p.ID, leads[p.ID]
			}
		}
		if target != 0 {
			return l, target
		}
	}
	return Log{}, 0
}
