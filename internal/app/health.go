package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
)

// opsOptions tell the HTTP server about the node.
func (n *node) opsOptions(audit *slog.Logger) ops.Options {
	return ops.Options{
		Logger:   n.log,
		Audit:    audit,
		Gatherer: n.registry,
		Serving:  func() bool { return n.local.Readable() && n.grpc.Serving() },
		Health:   n.health,
		Live: []ops.Check{
			{Name: "process", Probe: func(context.Context) error { return nil }},
		},
		Ready: []ops.Check{
			{Name: "grpc", Probe: n.probeGRPC},
			{Name: "storage", Probe: n.probeStorage},
		},
		Views: map[string]ops.View{"/admin/cluster/status": n.clusterStatus},
		Actions: map[string]ops.Action{
			"/admin/pause-writes":  n.pause(true),
			"/admin/resume-writes": n.pause(false),
			"/admin/backup":        n.takeBackup,
		},
		Vars:     map[string]func() any{"dkv": func() any { return n.health(context.Background()) }},
		Pprof:    n.cfg.Ops.Pprof,
		StatusOf: httpStatus,
	}
}

func (n *node) probeGRPC(context.Context) error {
	if !n.grpc.Serving() {
		return errors.New("gRPC is starting or draining")
	}
	return nil
}

func (n *node) probeStorage(context.Context) error {
	s := n.local.Status()
	switch {
	case n.local.Readable():
		return nil // whether writes are taken, too, each of them is told
	case s.Unreadable != nil:
		return s.Unreadable
	default:
		return errors.New("storage is " + string(s.State))
	}
}

func (n *node) health(context.Context) ops.Health {
	s := n.local.Status()
	usage := n.guard.Usage()
	h := ops.Health{
		Status:        ops.Healthy,
		NodeID:        n.info.ID,
		NodeName:      n.info.Name,
		Version:       n.info.Version,
		Role:          n.info.Role,
		UptimeSeconds: time.Since(n.info.Started).Seconds(),
		VBuckets: []ops.VBucket{{
			Database:     n.info.Database,
			Name:         s.VBucket,
			Mode:         "standalone",
			State:        string(s.State),
			IsLeader:     s.IsLeader,
			Leader:       n.info.Address,
			CommitIndex:  s.Commit,
			AppliedIndex: s.Applied,
		}},
		Disk: ops.Disk{FreeBytes: usage.Free, TotalBytes: usage.Total, ReserveBytes: usage.Reserve},
	}
	if s.ReadOnly != "" {
		h.Status, h.Reasons = ops.Degraded, append(h.Reasons, s.ReadOnly)
	}
	if s.Corruption != nil {
		h.Status, h.Reasons = ops.Degraded, append(h.Reasons, s.Corruption.Error()+"; restore a backup")
	}
	if !n.local.Readable() {
		h.Status = ops.Unhealthy
	}
	if s.Unreadable != nil {
		h.Reasons = append(h.Reasons, "nothing can be read: "+s.Unreadable.Error())
	}
	if !n.grpc.Serving() {
		h.Status, h.Reasons = ops.Unhealthy, append(h.Reasons, "gRPC is starting or draining")
	}
	return h
}

// clusterStatus answers /admin/cluster/status: a standalone node is a cluster
// of itself.
func (n *node) clusterStatus(ctx context.Context) (any, error) {
	status, err := n.node.GetNodeStatus(ctx, nil)
	if err != nil {
		return nil, err
	}
	type member struct {
		ID      string `json:"id"`
		Address string `json:"address"`
		State   string `json:"state"`
		Healthy bool   `json:"healthy"`
		Applied uint64 `json:"applied_index"`
	}
	type vBucket struct {
		Name    string   `json:"vbucket"`
		Leader  string   `json:"leader"`
		Term    uint64   `json:"term"`
		Members []member `json:"members"`
	}
	out := struct {
		Cluster  string    `json:"cluster_id"`
		VBuckets []vBucket `json:"vbuckets"`
	}{Cluster: n.info.Cluster}
	for _, v := range status.VBuckets {
		out.VBuckets = append(out.VBuckets, vBucket{
			Name:   v.VBucket,
			Leader: v.Leader,
			Term:   v.Term,
			Members: []member{{
				ID:      n.info.ID,
				Address: n.info.Address,
				State:   v.State,
				Healthy: v.State == string(replica.Serving),
				Applied: v.AppliedIndex,
			}},
		})
	}
	return out, nil
}

func (n *node) pause(paused bool) ops.Action {
	return func(ctx context.Context, _ json.RawMessage) (any, error) {
		_, err := n.node.SetPaused(ctx, paused)
		return nil, err
	}
}

func (n *node) takeBackup(ctx context.Context, body json.RawMessage) (any, error) {
	var request struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(body, &request); err != nil || request.Path == "" {
		return nil, &ops.Error{Status: 400, Text: `the body must be {"path": "NAME"}, a path below backup-dir`}
	}
	_, err := n.backup.Backup(ctx, &serverpb.BackupRequest{BackupPath: request.Path})
	return nil, err
}
