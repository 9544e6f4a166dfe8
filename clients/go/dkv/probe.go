package dkv

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/serverpb"
)

// Roles, as nodes report them.
const (
	roleSlave     = "slave"
	roleDiscovery = "discovery"
)

// ask asks a node for its status: what it serves, and who leads.
func (l *learner) ask(ctx context.Context, n *node) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	began := time.Now()
	var resp serverpb.NodeStatusResponse
	if err := n.invoke(ctx, serverpb.DKVNode_GetNodeStatus_FullMethodName, &emptypb.Empty{}, &resp); err != nil {
		out := toError(err, n.addr, false)
		if isUnimplemented(out) { // another implementation, or a proxy
			return soleReport(n), nil
		}
		return nil, out
	}
	n.observe(time.Since(began))
	if want := l.client.opts.database; want != "" && resp.GetDatabase() != "" && resp.GetDatabase() != want {
		return nil, wrongDatabase(n.addr, resp.GetDatabase(), want)
	}
	return reportOf(n, &resp), nil
}

// soleReport is the report of a node that has no status to give: it is taken to serve
// everything, and to be of the earlier system.
func soleReport(n *node) *report {
	return &report{node: n, identity: n.addr, address: n.addr, noIDs: true, parts: []part{{serving: true, leads: true}}}
}

func reportOf(n *node, s *serverpb.NodeStatusResponse) *report {
	r := &report{
		node:     n,
		identity: s.GetClusterId() + "/" + s.GetNodeId() + "/" + s.GetAddress(),
		address:  n.addr,
		slave:    s.GetRole() == roleSlave,

		deployment: s.GetClusterId(),
	}
	if dialable(s.GetAddress()) {
		r.address = s.GetAddress()
	}
	if s.GetAddress() == "" {
		r.identity = n.addr
	}
	if s.GetRole() == roleDiscovery {
		return r // registries serve no keys
	}
	r.removed = len(s.GetVBuckets()) > 0
	for _, v := range s.GetVBuckets() {
		r.removed = r.removed && v.GetState() == "removed"
		r.parts = append(r.parts, part{
			name:    v.GetVBucket(),
			history: v.GetHistoryId(),
			cluster: v.GetClusterId(),
			serving: v.GetState() == "serving",
			leads:   v.GetIsLeader() && !r.slave,
			term:    v.GetTerm(),
			leader:  v.GetLeader(),
		})
	}
	return r
}

// master reports whether the node knows the members of its cluster.
func (r *report) master() bool { return !r.slave && len(r.parts) > 0 && r.parts[0].name != "" }

const (
	// listEvery is the time between two requests for the members: they change seldom,
	// and a new leader is learned from its followers.
	listEvery = 15 * time.Second
	// listTime is how long the answer may take: a member without a majority waits for
	// one.
	listTime = 3 * time.Second
)

// listFrom asks a node for the others if it is a master, in the background, unless that was
// done within listEvery or a registry lists them. One that its cluster has removed, or that a
// promotion has replaced, lists who was a member then: it is asked only while no master is known.
func (l *learner) listFrom(ctx context.Context, n *node, r *report) {
	t := l.client.topology.Load()
	if !r.master() || t != nil && len(t.masters) > 0 && !slices.Contains(t.masters, n) {
		return
	}
	if !l.client.target.discovery && l.claimListing() {
		l.client.tasks.Go(func() { l.list(ctx, n) })
	}
}

func (l *learner) list(ctx context.Context, n *node) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	var nodes serverpb.ListNodesResponse
	if err := n.invoke(ctx, serverpb.DKVCluster_ListNodes_FullMethodName, &emptypb.Empty{}, &nodes); err != nil {
		return // the next master may answer
	}
	var all []candidate
	for _, m := range nodes.GetNodes() {
		if addr := m.GetAddress(); addr != "" {
			all = append(all, candidate{addr: addr, dc: m.GetDcID()})
		}
	}
	var slaves serverpb.GetReplicasResponse
	err := n.invoke(ctx, serverpb.DKVReplication_GetReplicas_FullMethodName, &serverpb.GetReplicasRequest{}, &slaves)
	if err != nil && !isUnimplemented(toError(err, n.addr, false)) {
		return
	}
	for _, s := range slaves.GetReplicas() {
		c := candidate{addr: net.JoinHostPort(s.GetHostname(), strconv.FormatUint(uint64(s.GetPort()), 10)), dc: s.GetZone(), slave: true, rank: rankSilent}
		switch since := s.GetSinceMillis(); {
		case since == 0:
			c.rank = rankUnknown
		case since < uint64(recentlySeen.Milliseconds()):
			c.rank = rankLive
		}
		all = append(all, c)
	}
	l.setMembers(all)
}

// claimListing reports whether the members are due to be asked for, and if so takes note
// that they were.
func (l *learner) claimListing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.listed) < listEvery {
		return false
	}
	l.listed = time.Now()
	return true
}
