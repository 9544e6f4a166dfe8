package member

import (
	"context"

	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/ops"
)

// Admin implements role.Role.
func (m *Member) Admin() role.Admin {
	return role.Admin{Views: map[string]ops.View{"/admin/raft/state": m.raftState}}
}

// raftState answers /admin/raft/state: what this node knows of its logs.
func (m *Member) raftState(context.Context) (any, error) {
	type vBucket struct {
		Name           string `json:"vbucket"`
		State          string `json:"state"`
		Leader         uint64 `json:"leader_id"`
		Term           uint64 `json:"term"`
		Applied        uint64 `json:"applied_index"`
		Epoch          uint64 `json:"epoch"`
		LeaseRemaining string `json:"lease_remaining"`
		LeaderChanges  uint64 `json:"leader_changes"`
		LogFormat      uint32 `json:"log_format"`
	}
	var out []vBucket
	for i, r := range m.rafts {
		s, stats := r.Status(), r.Stats()
		out = append(out, vBucket{
			Name: m.node.Layout.VBuckets[i], State: string(s.State), Leader: s.Owner.ID, Term: s.Term, Applied: s.Applied,
			Epoch: stats.Epoch, LeaseRemaining: stats.Remaining.String(), LeaderChanges: stats.LeaderChanges,
			LogFormat: r.Format(),
		})
	}
	return out, nil
}
