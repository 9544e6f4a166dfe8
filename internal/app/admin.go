package app

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// views are the questions that operators ask over HTTP.
func (n *node) views() map[string]ops.View {
	return map[string]ops.View{
		"/admin/cluster/status":  n.whenOpen(n.clusterStatus),
		"/admin/raft/state":      n.whenOpen(n.raftState),
		"/admin/replication/lag": n.whenOpen(n.replicationLag),
	}
}

// actions are what operators do over HTTP; the gRPC services do the same.
func (n *node) actions() map[string]ops.Action {
	actions := map[string]ops.Action{
		"/admin/pause-writes":  n.pause(true),
		"/admin/resume-writes": n.pause(false),
		"/admin/reset-clock":   n.resetClock,
		"/admin/backup":        n.takeBackup,
		"/admin/cluster/add": n.changeNode(func(ctx context.Context, r nodeRequest) error {
			_, err := n.membership().AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: r.URL, NonVoting: r.NonVoting})
			return err
		}),
		"/admin/cluster/remove": n.changeNode(func(ctx context.Context, r nodeRequest) error {
			_, err := n.membership().RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: r.URL, Force: r.Force})
			return err
		}),
		"/admin/cluster/transfer-leadership": n.transferLeadership,
		"/admin/raft/step-down": func(ctx context.Context, _ json.RawMessage) (any, error) {
			_, err := n.membership().StepDown(ctx, nil)
			return nil, err
		},
		"/admin/raft/snapshot": func(ctx context.Context, _ json.RawMessage) (any, error) {
			_, err := n.membership().Snapshot(ctx, nil)
			return nil, err
		},
	}
	if n.cfg.Role == config.RoleSlave {
		actions["/admin/resync"] = n.resync
	}
	for path, action := range actions {
		actions[path] = func(ctx context.Context, body json.RawMessage) (any, error) {
			if !n.opened.Load() {
				return nil, kv.Errorf(kv.Unavailable, "%w", n.opening())
			}
			return action(ctx, body)
		}
	}
	return actions
}

func (n *node) whenOpen(view ops.View) ops.View {
	return func(ctx context.Context) (any, error) {
		if !n.opened.Load() {
			return nil, kv.Errorf(kv.Unavailable, "%w", n.opening())
		}
		return view(ctx)
	}
}

// raftState answers /admin/raft/state: what this node knows of its logs.
func (n *node) raftState(context.Context) (any, error) {
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
	for _, v := range n.vBuckets {
		r, ok := v.hosted.(*replica.Raft)
		if !ok {
			return nil, kv.Errorf(kv.Unimplemented, "this node is %s and has no Raft log; ask a master", n.role())
		}
		s, stats := r.Status(), r.RaftStats()
		out = append(out, vBucket{
			Name: v.name, State: string(s.State), Leader: s.Owner.ID, Term: s.Term, Applied: s.Applied,
			Epoch: stats.Epoch, LeaseRemaining: stats.Remaining.String(), LeaderChanges: stats.LeaderChanges,
			LogFormat: r.Format(),
		})
	}
	return out, nil
}

// replicationLag answers /admin/replication/lag: how old this node's states are.
func (n *node) replicationLag(context.Context) (any, error) {
	type vBucket struct {
		Name       string  `json:"vbucket"`
		IsLeader   bool    `json:"is_leader"`
		LagSeconds float64 `json:"lag_seconds"`
		Applied    uint64  `json:"applied_index"`
	}
	var out []vBucket
	for _, v := range n.vBuckets {
		s := v.Status()
		out = append(out, vBucket{Name: v.name, IsLeader: s.IsLeader, LagSeconds: s.Age.Seconds(), Applied: s.Applied})
	}
	return out, nil
}

func (n *node) pause(paused bool) ops.Action {
	return func(ctx context.Context, _ json.RawMessage) (any, error) {
		_, err := n.node.SetPaused(ctx, paused)
		return nil, err
	}
}

func (n *node) resetClock(ctx context.Context, body json.RawMessage) (any, error) {
	var request struct {
		Time *time.Time `json:"time"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"time": "2006-01-02T15:04:05Z"}, or empty for the present time`}
		}
	}
	var to uint64
	if request.Time != nil {
		to = uint64(max(request.Time.UnixMilli(), 1))
	}
	_, err := n.node.SetClock(ctx, &serverpb.SetClockRequest{ClockMillis: to})
	return nil, err
}

func (n *node) resync(ctx context.Context, body json.RawMessage) (any, error) {
	var request struct {
		VBucket string `json:"vbucket"`
		Force   bool   `json:"force"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"vbucket": "NAME", "force": false}, or empty for all that wait for it`}
		}
	}
	resp, err := n.node.Resync(ctx, &serverpb.ResyncRequest{VBucket: request.VBucket, Force: request.Force})
	if err != nil {
		return nil, err
	}
	type order struct {
		VBucket string `json:"vbucket"`
		What    string `json:"what"`
	}
	var orders []order
	for _, o := range resp.GetOrders() {
		orders = append(orders, order{o.GetVBucket(), o.GetWhat()})
	}
	return map[string]any{"status": "ok", "orders": orders}, nil
}

func (n *node) takeBackup(ctx context.Context, body json.RawMessage) (any, error) {
	var request struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(body, &request); err != nil || request.Path == "" {
		return nil, &ops.Error{Status: 400, Text: `the body must be {"path": "NAME"}, a path below backup-dir`}
	}
	if why := n.notHere(serverpb.DKVBackupRestore_ServiceDesc.ServiceName); why != "" {
		return nil, kv.Errorf(kv.Unimplemented, "%s", why)
	}
	_, err := n.backup.Backup(ctx, &serverpb.BackupRequest{BackupPath: request.Path})
	return nil, err
}

// nodeRequest is the body of a change of the membership.
type nodeRequest struct {
	URL       string `json:"node_url"`
	NonVoting bool   `json:"non_voting"`
	Force     bool   `json:"force"`
}

// changeNode adds or removes the node that the body names.
func (n *node) changeNode(change func(ctx context.Context, r nodeRequest) error) ops.Action {
	return func(ctx context.Context, body json.RawMessage) (any, error) {
		var r nodeRequest
		if err := json.Unmarshal(body, &r); err != nil || r.URL == "" {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"node_url": "http://HOST:PORT"}, the node's Raft address`}
		}
		return nil, change(ctx, r)
	}
}

func (n *node) transferLeadership(ctx context.Context, body json.RawMessage) (any, error) {
	var request struct {
		Target string `json:"target"`
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			return nil, &ops.Error{Status: 400, Text: `the body must be {"target": "http://HOST:PORT"}, a member's Raft address, or empty`}
		}
	}
	_, err := n.membership().TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: request.Target})
	return nil, err
}
