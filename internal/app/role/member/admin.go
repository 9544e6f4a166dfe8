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
		role.LogState
		Epoch          uint64 `json:"epoch"`
		LeaseRemaining string `json:"lease_remaining"`
		LeaderChanges  uint64 `json:"leader_changes"`
		LogFormat      uint32 `json:"log_format"`
		LogFirst       uint64 `json:"log_first_index"`
		LogEntries     uint64 `json:"log_entries"`
		LogBytes       uint64 `json:"log_bytes"`
	}
	var out []vBucket
	for i, r := range m.rafts {
		s, stats, window := r.Status(), r.Stats(), r.Window()
		out = append(out, vBucket{
			LogState: role.LogStateOf(m.node.Layout.VBuckets[i], &s),
			Epoch:    stats.Epoch, LeaseRemaining: stats.Remaining.String(), LeaderChanges: stats.LeaderChanges,
			LogFormat: r.Format(), LogFirst: window.First, LogEntries: window.Next - window.First, LogBytes: window.Bytes,
		})
	}
	return out, nil
}
