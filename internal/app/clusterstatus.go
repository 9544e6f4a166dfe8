package app

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/replica"
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
func (n *node) clusterStatus(ctx context.Context) (any, error) {
	list, err := n.membership().ListNodes(ctx, nil) // asks the members as well
	if err != nil {
		return nil, err
	}
	peers := make(map[uint64]cluster.Peer)
	if n.cluster != nil {
		for _, p := range n.cluster.Peers() {
			peers[p.ID] = p
		}
	}
	out := clusterStatus{Cluster: n.info.Cluster}
	for _, v := range n.vBuckets {
		s := v.Status()
		out.Cluster = cmp.Or(out.Cluster, s.Identity.Cluster)
		part := clusterVBucket{Name: v.name, Leader: n.leaderOf(&s), LeaderID: n.leaderID(&s), Term: s.Term}
		for _, id := range slices.Sorted(maps.Keys(list.GetNodes())) {
			m := memberOf(list.Nodes[id])
			if _, copied := v.hosted.(*followed); copied {
				m.tellCopy(&s)
			} else if m.ID == n.info.ID {
				m.tellSelf(&s)
			} else if id != 0 {
				m.tell(peers[id].StatusIn(v.name))
			}
			part.Members = append(part.Members, m)
		}
		out.VBuckets = append(out.VBuckets, part)
	}
	if len(out.VBuckets) > 0 {
		out.Leader, out.LeaderID = out.VBuckets[0].Leader, out.VBuckets[0].LeaderID
	}
	return out, nil
}

// leaderID is the id of the node that leaderOf names; empty if there is none.
func (n *node) leaderID(s *replica.Status) string {
	switch {
	case s.State == replica.Removed:
		return ""
	case s.Owner.Self:
		return n.info.ID
	case s.Owner.ID == 0:
		return ""
	default:
		return strconv.FormatUint(s.Owner.ID, 10)
	}
}

// memberOf is a member as the list of nodes has it, which goes by the first vBucket.
func memberOf(info *modelspb.NodeInfo) member {
	return member{
		ID:      strconv.FormatUint(info.GetNodeId(), 10),
		Name:    info.GetNodeName(),
		Address: info.GetAddress(),
		URL:     info.GetNodeUrl(),
		State:   info.GetStatus().String(),
		Voting:  !info.GetNonVoting(),
		Healthy: info.GetStatus().Number() <= 2, // leader, candidate or follower
	}
}

// tell adds what another member has said of the vBucket; nil is nothing.
func (m *member) tell(s *serverpb.VBucketStatus) {
	if s == nil {
		return
	}
	m.Commit, m.Applied = &s.CommitIndex, &s.AppliedIndex
	m.judge(s.GetState(), s.GetIsLeader())
}

// tellSelf adds what this node has to say.
func (m *member) tellSelf(s *replica.Status) {
	m.Commit, m.Applied = &s.Commit, &s.Applied
	m.judge(string(s.State), s.IsLeader)
}

// tellCopy adds what a slave has to say: it is no member, and leads nothing.
func (m *member) tellCopy(s *replica.Status) {
	m.Commit, m.Applied = nil, &s.Applied
	m.Healthy = s.State == replica.Serving && s.Stale == nil
	if s.State != replica.Serving {
		m.State = string(s.State)
	}
}

// judge sets what a member does from what it says. A state in which it does not serve is
// told as it is, such as restoring or failed.
func (m *member) judge(state string, leads bool) {
	switch {
	case state != string(replica.Serving):
		m.State, m.Healthy = state, state == string(replica.Restoring)
	case leads:
		m.State, m.Healthy = modelspb.NodeInfo_LEADER.String(), true
	default:
		m.State, m.Healthy = modelspb.NodeInfo_FOLLOWER.String(), true
	}
}
