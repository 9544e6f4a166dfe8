package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/bootstrap"
	"github.com/dkvdb/dkv/internal/peer"
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
	members := c.records()
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
			if c.answers(ctx, member.Address) {
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

// answers tells whether the node at an address says anything. That a connection
// stands is not enough: a process that was stopped keeps its own.
func (c *Cluster) answers(ctx context.Context, address string) bool {
	err := c.ask(ctx, address, healthpb.Health_Check_FullMethodName, &healthpb.HealthCheckRequest{}, new(healthpb.HealthCheckResponse))
	return err == nil || peer.Answered(err)
}

// records are how the members are reached that have said so, by replica id. One
// that was removed may still have its record, which nobody could take away.
func (c *Cluster) records() map[uint64]replica.Member {
	c.mu.Lock()
	gone := c.known.Removed
	c.mu.Unlock()
	out := c.first().Members()
	maps.DeleteFunc(out, func(id uint64, _ replica.Member) bool { return slices.Contains(gone, id) })
	return out
}

// askWhetherRemoved asks the members that can be reached whether this replica is
// still one of theirs: a replica that was removed while it was away hears nothing
// of it through the log, and would wait for a leader for ever.
func (c *Cluster) askWhetherRemoved(ctx context.Context) {
	for id, member := range c.records() {
		if id == c.self.Replica || member.Address == "" || !c.toldWithout(ctx, member.Address) {
			continue
		}
		for _, l := range c.logs {
			l.PutOut()
		}
		return
	}
}

// toldWithout tells whether the node at an address is a member of this cluster and
// knows from a majority that this one is none.
func (c *Cluster) toldWithout(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	// An address that another cluster has taken over says nothing.
	status := new(serverpb.NodeStatusResponse)
	err := c.ask(ctx, address, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, status)
	if err != nil || status.GetClusterId() != fmt.Sprintf("%016x", c.self.Deployment) {
		return false
	}
	list := new(serverpb.ListNodesResponse)
	err = c.ask(ctx, address, serverpb.DKVCluster_ListNodes_FullMethodName, &emptypb.Empty{}, list)
	// A leader is only told of by a majority; a list without one may be old.
	if err != nil || list.GetLeader() == 0 {
		return false
	}
	_, is := list.GetNodes()[c.self.Replica]
	return !is
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
	if slices.Contains(known.Removed, id) {
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
	for id, member := range c.records() {
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
// known last, and no leader. Who answers is found out anew: a node that was just
// added is no news of a second ago.
func (c *Cluster) ListNodes(ctx context.Context, _ *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	attempt, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var looking sync.WaitGroup
	looking.Go(func() { c.reach(attempt) })
	members, err := c.membership(attempt)
	looking.Wait()
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
