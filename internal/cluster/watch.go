package cluster

import (
	"context"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/bootstrap"
	"github.com/dkvdb/dkv/internal/replica"
)

const (
	// watchInterval is how often the members are looked at.
	watchInterval = time.Second
	// watchCall is how long a member may take to answer.
	watchCall = 800 * time.Millisecond
	// orphanAfter is how long a replica knows no leader before it asks whether it
	// still belongs to the cluster.
	orphanAfter = 3 * time.Second
)

// watch keeps what is known of the members true.
func (c *Cluster) watch(ctx context.Context) {
	led := time.Now()
	c.reach(ctx)
	for sleep(ctx, watchInterval) {
		attempt, cancel := context.WithTimeout(ctx, watchInterval)
		_, _ = c.membership(attempt) // without a majority the last that is known stays
		cancel()
		c.reach(ctx)
		if c.first().Owner().ID != 0 {
			led = time.Now()
		}
		if time.Since(led) > orphanAfter {
			c.askWhetherRemoved(ctx)
		}
	}
}

// reach finds out which members answer, and closes connections to others.
func (c *Cluster) reach(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	members := c.first().Members()
	var mu sync.Mutex
	var wg sync.WaitGroup
	up := make(map[uint64]bool)
	addresses := make([]string, 0, len(members))
	for id, member := range members {
		if member.Address == "" {
			continue
		}
		addresses = append(addresses, member.Address)
		if id == c.self.Replica {
			continue
		}
		wg.Go(func() {
			if p, err := c.pool.Peer(member.Address); err == nil && p.Await(ctx) == nil {
				mu.Lock()
				up[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.reached.Store(&up)
	c.pool.Retain(addresses...)
}

// askWhetherRemoved asks the members that can be reached whether this replica is
// still one of theirs: a replica that was removed while it was away hears nothing
// of it through the log, and would wait for a leader for ever.
func (c *Cluster) askWhetherRemoved(ctx context.Context) {
	for id, member := range c.first().Members() {
		if id == c.self.Replica || member.Address == "" {
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, watchCall)
		list := new(serverpb.ListNodesResponse)
		err := c.ask(attempt, member.Address, serverpb.DKVCluster_ListNodes_FullMethodName, &emptypb.Empty{}, list)
		cancel()
		// A leader is only told of by a majority; a list without one may be old.
		if err != nil || list.GetLeader() == 0 {
			continue
		}
		if _, is := list.GetNodes()[c.self.Replica]; !is {
			for _, l := range c.logs {
				l.PutOut()
			}
			return
		}
	}
}

// Peer is another member as this node sees it.
type Peer struct {
	ID      uint64
	Address string
	Voting  bool
	// Healthy tells that it has answered within the last seconds.
	Healthy bool
}

// Peers lists the other members.
func (c *Cluster) Peers() []Peer {
	reached := *c.reached.Load()
	var out []Peer
	for _, p := range c.lastKnown().Peers {
		if p.ID != c.self.Replica {
			out = append(out, Peer{ID: p.ID, Address: p.Address, Voting: p.Voting, Healthy: reached[p.ID]})
		}
	}
	return out
}

// standing tells what is known of a first member.
func (c *Cluster) standing(id uint64) bootstrap.Standing {
	known := c.lastKnown()
	if _, is := removed(&known, id); is {
		return bootstrap.Removed
	}
	if c.first().Members()[id].Address != "" {
		return bootstrap.Active
	}
	return bootstrap.Unknown
}

// silent lists the members that have been active and do not answer.
func (c *Cluster) silent() []bootstrap.Known {
	reached := *c.reached.Load()
	var out []bootstrap.Known
	for id, member := range c.first().Members() {
		if id != c.self.Replica && member.Address != "" && !reached[id] {
			out = append(out, bootstrap.Known{Replica: id, URL: bootstrap.FormatURL(member.RaftAddress)})
		}
	}
	return out
}

// listTimeout is how long ListNodes waits for a majority before it answers with
// what is known here.
const listTimeout = time.Second

// ListNodes implements DKVCluster. Where no majority answers, it lists what was
// known last, and no leader.
func (c *Cluster) ListNodes(ctx context.Context, _ *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	attempt, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	members, err := c.membership(attempt)
	leader := uint64(0)
	if err != nil {
		members = c.lastKnown()
	} else {
		leader = c.first().Owner().ID
	}
	reached := *c.reached.Load()
	out := &serverpb.ListNodesResponse{Status: &serverpb.Status{}, Leader: leader, Nodes: make(map[uint64]*modelspb.NodeInfo)}
	for _, p := range members.Peers {
		out.Nodes[p.ID] = nodeInfo(p, leader, p.ID == c.self.Replica || reached[p.ID])
	}
	return out, nil
}

func nodeInfo(p replica.Peer, leader uint64, up bool) *modelspb.NodeInfo {
	info := &modelspb.NodeInfo{
		NodeId:      p.ID,
		NodeUrl:     bootstrap.FormatURL(p.Address),
		Status:      modelspb.NodeInfo_FOLLOWER,
		Address:     p.Member.Address,
		HttpAddress: p.Member.HTTPAddress,
		NodeName:    p.Member.Name,
		DcID:        p.Member.DC,
		NonVoting:   !p.Voting,
	}
	switch {
	case p.ID == leader:
		info.Status = modelspb.NodeInfo_LEADER
	case !up:
		info.Status = modelspb.NodeInfo_OFFLINE
	}
	return info
}

// Name is how a member is called in metrics.
func (p Peer) Name() string { return strconv.FormatUint(p.ID, 10) }
