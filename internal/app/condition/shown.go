package condition

import (
	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Shown is how a member of a vBucket's cluster is shown to operators.
type Shown struct {
	// State is the member's part (LEADER, FOLLOWER), or what it does if it does not
	// serve, such as restoring.
	State   string
	Healthy bool
	// Commit and Applied are nil if they are not known.
	Commit, Applied *kv.Index
}

// Listed is how a member shows of which only the list of members is known.
func Listed(status modelspb.NodeInfo_NodeStatus) Shown {
	s := Shown{State: status.String()}
	switch status {
	case modelspb.NodeInfo_LEADER, modelspb.NodeInfo_CANDIDATE, modelspb.NodeInfo_FOLLOWER:
		s.Healthy = true
	}
	return s
}

// Said is how a member shows that has said how it is; nil is what one has said that does
// not answer, which shows as it is listed.
func Said(listed Shown, s *serverpb.VBucketStatus) Shown {
	if s == nil {
		return listed
	}
	out := shown(s.GetState(), s.GetIsLeader())
	out.Commit, out.Applied = &s.CommitIndex, &s.AppliedIndex
	return out
}

// Shown is how this node shows. A copy is no member, and leads nothing: it shows as
// listed, unless it does not serve.
func (v *VBucket) Shown(listed Shown) Shown {
	s := &v.Replica
	if s.Mode != replica.ModeStream {
		out := shown(string(s.State), s.IsLeader)
		out.Commit, out.Applied = &s.Commit, &s.Applied
		return out
	}
	out := Shown{State: listed.State, Healthy: s.State == replica.Serving && s.Stale == nil, Applied: &s.Applied}
	if s.State != replica.Serving {
		out.State = string(s.State)
	}
	return out
}

// shown is how a member shows that says what it does and whether it leads.
func shown(state string, leads bool) Shown {
	switch {
	case state != string(replica.Serving):
		return Shown{State: state, Healthy: state == string(replica.Restoring)}
	case leads:
		return Shown{State: modelspb.NodeInfo_LEADER.String(), Healthy: true}
	default:
		return Shown{State: modelspb.NodeInfo_FOLLOWER.String(), Healthy: true}
	}
}
