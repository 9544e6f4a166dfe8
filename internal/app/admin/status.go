package admin

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/report"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/kv"
)

// clusterStatus is the document of /admin/cluster/status. The leader of a node with
// several vBuckets is that of the first; each has its own beside it.
type clusterStatus struct {
	Cluster  string           `json:"cluster_id"`
	Leader   string           `json:"leader"`
	LeaderID string           `json:"leader_id"`
	VBuckets []clusterVBucket `json:"vbuckets"`
}

type clusterVBucket struct {
	Name     string   `json:"vbucket"`
	Leader   string   `json:"leader"`
	LeaderID string   `json:"leader_id"`
	Term     uint64   `json:"term"`
	Members  []member `json:"members"`
}

// member is one of a vBucket's members, as it says itself; the indexes are left out if
// it does not answer.
type member struct {
	ID      string  `json:"id"`
	Name    string  `json:"name,omitempty"`
	Address string  `json:"address"`
	URL     string  `json:"url,omitempty"`
	State   string  `json:"state"`
	Voting  bool    `json:"voting"`
	Healthy bool    `json:"healthy"`
	Commit  *uint64 `json:"commit_index,omitempty"`
	Applied *uint64 `json:"applied_index,omitempty"`
}

// clusterStatus answers /admin/cluster/status: a standalone node is a cluster of
// itself.
func (a *Admin) clusterStatus(ctx context.Context) (any, error) {
	list, err := a.Services().Membership.ListNodes(ctx, nil) // asks the members as well
	if err != nil {
		return nil, err
	}
	peers := make(map[uint64]cluster.Peer)
	for _, p := range a.Role.Cluster().Peers() {
		peers[p.ID] = p
	}
	out, n := clusterStatus{Cluster: a.Node.Info.Cluster}, a.Condition()
	for i := range n.VBuckets {
		v := &n.VBuckets[i]
		out.Cluster = cmp.Or(out.Cluster, v.Replica.Identity.Cluster)
		part := clusterVBucket{Name: v.Name, Leader: v.Leader, LeaderID: v.LeaderID, Term: v.Replica.Term}
		for _, id := range slices.Sorted(maps.Keys(list.GetNodes())) {
			part.Members = append(part.Members, memberOf(list.Nodes[id], a.shownOf(v, list.Nodes[id], peers[id])))
		}
		out.VBuckets = append(out.VBuckets, part)
	}
	if len(out.VBuckets) > 0 {
		out.Leader, out.LeaderID = out.VBuckets[0].Leader, out.VBuckets[0].LeaderID
	}
	return out, nil
}

// shownOf is how a node of the list shows in a vBucket: this node by its own condition,
// the others by what they have said.
func (a *Admin) shownOf(v *condition.VBucket, info *modelspb.NodeInfo, p cluster.Peer) condition.Shown {
	listed := condition.Listed(info.GetStatus())
	if self := strconv.FormatUint(info.GetNodeId(), 10); self == a.Node.Info.ID || info.GetStatus() == modelspb.NodeInfo_SLAVE {
		return v.Shown(listed)
	}
	return condition.Said(listed, p.StatusIn(v.Name))
}

func memberOf(info *modelspb.NodeInfo, s condition.Shown) member {
	return member{
		ID:      strconv.FormatUint(info.GetNodeId(), 10),
		Name:    info.GetNodeName(),
		Address: info.GetAddress(),
		URL:     info.GetNodeUrl(),
		State:   s.State,
		Voting:  !info.GetNonVoting(),
		Healthy: s.Healthy,
		Commit:  s.Commit,
		Applied: s.Applied,
	}
}

// report answers /admin/node.
func (a *Admin) report(ctx context.Context) (any, error) { return report.Of(ctx, a.Node), nil }

// logState answers /admin/raft/state on a node without a Raft log, which has a log or a
// copy of one all the same. A master says more.
func (a *Admin) logState(context.Context) (any, error) {
	n := a.Condition()
	out := make([]role.LogState, len(n.VBuckets))
	for i := range n.VBuckets {
		out[i] = role.LogStateOf(n.VBuckets[i].Name, &n.VBuckets[i].Replica)
	}
	return out, nil
}

// replicationLag answers /admin/replication/lag: how old this node's states are.
func (a *Admin) replicationLag(context.Context) (any, error) {
	type vBucket struct {
		Name       string  `json:"vbucket"`
		IsLeader   bool    `json:"is_leader"`
		LagSeconds float64 `json:"lag_seconds"`
		LagChanges uint64  `json:"lag_changes"`
		// Path are the nodes by which changes reach a slave, the one that it follows first;
		// the link is the one to that.
		Path        []string `json:"path,omitempty"`
		LinkSeconds *float64 `json:"link_lag_seconds,omitempty"`
		LinkChanges *uint64  `json:"link_lag_changes,omitempty"`
		Commit      uint64   `json:"commit_index"`
		Applied     uint64   `json:"applied_index"`
	}
	n := a.Condition()
	out := make([]vBucket, len(n.VBuckets))
	for i := range n.VBuckets {
		v := &n.VBuckets[i]
		out[i] = vBucket{Name: v.Name, IsLeader: v.Replica.IsLeader, LagSeconds: v.Replica.Age.Seconds(), LagChanges: v.Replica.Lag,
			Commit: v.Replica.Commit, Applied: v.Replica.Applied}
		if link := v.Replica.Link; len(link.Path) > 0 {
			seconds := link.Age.Seconds()
			out[i].Path, out[i].LinkSeconds, out[i].LinkChanges = link.Path, &seconds, &link.Lag
		}
	}
	return out, nil
}

// lacks answers a path that only nodes of another role have: what this node is, and which
// one to ask.
func (a *Admin) lacks(what, ask string) error {
	return kv.Errorf(kv.Unimplemented, "this node is %s and %s; ask %s", a.Role.Name(), what, ask)
}

// clusterMetrics answers /metrics/cluster on a node that is not of the registry.
func (a *Admin) clusterMetrics(context.Context) (any, error) {
	return nil, a.lacks("does not know the nodes of all databases", "a discovery node, or /metrics for this node's own metrics")
}
