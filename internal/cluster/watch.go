package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica"
)

const (
	// watchInterval is how often the members are asked for their status.
	watchInterval = time.Second
	// watchCall is how long a member may take to answer.
	watchCall = 800 * time.Millisecond
	// orphanAfter is how long a replica is without a leader before it asks whether it is
	// still a member.
	orphanAfter = 3 * time.Second
)

// watch keeps what is known about the members up to date, until ctx ends. Its error is
// that of judgeTiming.
func (c *Cluster) watch(ctx context.Context) error {
	led := time.Now()
	c.reach(ctx)
	for periodic.Wait(ctx, watchInterval) {
		attempt, cancel := context.WithTimeout(ctx, watchInterval)
		_, err := c.membership(attempt) // without a majority the last known one is kept
		if err == nil {
			c.introduce(attempt)
		}
		cancel()
		var greeting sync.WaitGroup
		greeting.Go(func() { c.greet(ctx) })
		c.reach(ctx)
		greeting.Wait()
		if err := c.judgeTiming(err == nil || c.standsAlone()); err != nil {
			return err
		}
		// A known leader is not enough: a replica without a vote keeps the last one.
		if err == nil && c.first().Owner().ID != 0 {
			led = time.Now()
		}
		if time.Since(led) > orphanAfter {
			c.askWhetherRemoved(ctx)
		}
	}
	return nil
}

// sighting is what a member said of itself when it last answered.
type sighting struct {
	// behind are the vBuckets that it could not lead at once: those in which its replica has stopped,
	// or did not say what it has applied, and those led by this node in which it was far behind.
	behind map[string]bool
	// status is what it said; nil if it answered with an error.
	status *serverpb.NodeStatusResponse
}

// closeBehind is how many changes a member may lag and still take over a vBucket at
// once: those under way to it, and a few milliseconds' worth under full load.
const closeBehind = 4096

// reach finds out which members answer, and closes connections to all nodes that are not members.
func (c *Cluster) reach(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	members, led := c.records(), c.led()
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := make(map[uint64]sighting)
	for id, member := range members {
		if member.Address == "" || id == c.self.Replica {
			continue
		}
		wg.Go(func() {
			if s, answers := c.look(ctx, id, member.Address, led); answers {
				mu.Lock()
				seen[id] = s
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	c.seen.Store(&seen)
	c.looked.Store(true)
	c.pool.Retain(c.named()...)
}

// named returns the gRPC addresses of members that any log or the notes name: requests
// may be under way to a member whose record the first vBucket does not have yet.
func (c *Cluster) named() []string {
	c.mu.Lock()
	gone := c.known.Removed
	c.mu.Unlock()
	out := slices.Collect(maps.Values(c.noted()))
	for _, l := range c.logs {
		for id, member := range l.Members() {
			if member.Address != "" && !slices.Contains(gone, id) {
				out = append(out, member.Address)
			}
		}
	}
	return out
}

// led returns the applied indexes of the vBuckets that this node leads.
func (c *Cluster) led() map[string]kv.Index {
	out := make(map[string]kv.Index)
	for _, l := range c.logs {
		if l.Owner().ID == c.self.Replica {
			out[l.VBucket] = l.Applied()
		}
	}
	return out
}

// look asks the node at an address for its status, and compares it with the vBuckets
// that are led here. A connection that stands is not an answer: a stopped process keeps
// its connections. The replicas here are told what the node says that it leads.
func (c *Cluster) look(ctx context.Context, id uint64, address string, led map[string]kv.Index) (s sighting, answers bool) {
	status, err := c.statusAt(ctx, address)
	if err != nil && !peer.Answered(err) {
		return sighting{}, false
	}
	ours := c.ours(status)
	if ours {
		s.status = status
	}
	said := make(map[string]*serverpb.VBucketStatus, len(c.logs))
	for _, v := range status.GetVBuckets() {
		said[v.GetVBucket()] = v
	}
	s.behind = make(map[string]bool)
	for _, l := range c.logs {
		v := said[l.VBucket]
		if ours && v.GetIsLeader() {
			l.HearLeader(id, v.GetTerm())
		}
		if here, leads := led[l.VBucket]; !takesPart(v) || leads && v.GetAppliedIndex()+closeBehind < here {
			s.behind[l.VBucket] = true
		}
	}
	return s, true
}

// answers reports whether a member has answered recently.
func (c *Cluster) answers(id uint64) bool {
	_, seen := (*c.seen.Load())[id]
	return seen
}

// able reports whether a member could lead as far as is known: it has answered recently, and the
// registry answers it if it needs that.
func (c *Cluster) able(id uint64) bool {
	s, seen := (*c.seen.Load())[id]
	return seen && !s.status.GetRegistrySilent()
}

// fit reports whether a member could lead a vBucket at once: it is able to, takes part in its log,
// and lags little.
func (c *Cluster) fit(vBucket string, id uint64) bool {
	return c.able(id) && !(*c.seen.Load())[id].behind[vBucket]
}

// records returns the members that have announced their addresses, by replica id. A
// removed one is left out: its record may not have been deleted yet.
func (c *Cluster) records() map[uint64]replica.Member {
	c.mu.Lock()
	gone := c.known.Removed
	c.mu.Unlock()
	out := c.first().Members()
	maps.DeleteFunc(out, func(id uint64, _ replica.Member) bool { return slices.Contains(gone, id) })
	return out
}

// askWhetherRemoved asks the members that can be reached whether this replica is still
// a member: one that was removed while it was down, or before it had anything of the log, does not
// learn that from the log, and would wait for a leader for ever.
func (c *Cluster) askWhetherRemoved(ctx context.Context) {
	for id, address := range c.addresses() {
		if id == c.self.Replica || !c.toldWithout(ctx, address) {
			continue
		}
		for _, l := range c.logs {
			l.MarkRemoved()
		}
		return
	}
}

// toldWithout reports whether the node at an address is a member of this cluster and
// knows from a majority that this node is not.
func (c *Cluster) toldWithout(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, watchCall)
	defer cancel()
	status, err := c.statusAt(ctx, address)
	if err != nil || !c.ours(status) {
		return false
	}
	list := new(serverpb.ListNodesResponse)
	err = c.pool.Call(ctx, address, serverpb.DKVCluster_ListNodes_FullMethodName, &emptypb.Empty{}, list)
	// Only a majority names a leader; a list without one may be old.
	if err != nil || list.GetLeader() == 0 {
		return false
	}
	_, is := list.GetNodes()[c.self.Replica]
	return !is
}

// ours reports whether a status is that of a node of this cluster: another cluster's
// node may have taken over the address.
func (c *Cluster) ours(status *serverpb.NodeStatusResponse) bool {
	return status.GetClusterId() == fmt.Sprintf("%016x", c.self.Deployment)
}

// standing returns what is known about a first member.
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

// silent returns the members that have been active and do not answer.
func (c *Cluster) silent() []bootstrap.Known {
	var out []bootstrap.Known
	for id, member := range c.records() {
		if id != c.self.Replica && member.Address != "" && !c.answers(id) {
			out = append(out, bootstrap.Known{Replica: id, URL: bootstrap.FormatURL(member.RaftAddress)})
		}
	}
	return out
}

// listTimeout is how long ListNodes waits for a majority before it answers with
// what is known here.
const listTimeout = time.Second

// ListNodes implements DKVCluster. If no majority answers, it lists the members that are
// known, without a leader. All members are asked again, so that one that was just added
// is not missing.
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
	said := new(serverpb.Status)
	if errors.Is(err, kv.ErrRemoved) {
		said.Message = "this node was removed from the cluster, so that it lists who was a member then; ask another one"
	}
	out := &serverpb.ListNodesResponse{Status: said, Leader: leader, Nodes: make(map[uint64]*modelspb.NodeInfo)}
	for _, p := range members.Peers {
		out.Nodes[p.ID] = nodeInfo(p, leader, p.ID == c.self.Replica || c.answers(p.ID))
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
		Timing:      p.Member.Timing.Text(),
	}
	switch {
	case p.ID == leader:
		info.Status = modelspb.NodeInfo_LEADER
	case up:
	case p.Member.Address == "":
		info.Status = modelspb.NodeInfo_UNKNOWN // its address is not known, so that it cannot be asked
	default:
		info.Status = modelspb.NodeInfo_OFFLINE
	}
	return info
}

// URLs returns the Raft addresses of all members that are known, by replica id.
func (c *Cluster) URLs() []string {
	var out []string
	for _, p := range c.lastKnown().Peers {
		if p.Address != "" {
			out = append(out, bootstrap.FormatURL(p.Address))
		}
	}
	return out
}
