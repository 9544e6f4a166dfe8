package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/backup"
	"github.com/dkvdb/dkv/internal/ops"
)

// common are the administrative calls of every role, by path; the gRPC services do the
// same. A node without a cluster answers those about one with why.
func (a *Admin) common() map[string]role.Action {
	return map[string]role.Action{
		"/admin/pause-writes":                pauseWrites(true),
		"/admin/resume-writes":               pauseWrites(false),
		"/admin/reset-clock":                 resetClock,
		"/admin/backup":                      takeBackup,
		"/admin/restore":                     restoreBackup,
		"/admin/promote":                     promote,
		"/admin/cluster/add":                 changeNode(addNode),
		"/admin/cluster/remove":              changeNode(removeNode),
		"/admin/cluster/transfer-leadership": transferLeadership,
		"/admin/raft/step-down":              stepDown,
		"/admin/raft/snapshot":               snapshot,
		"/admin/resync":                      a.noCopy,
		"/admin/cancel-resync":               a.noCopy,
		"/admin/log-level":                   a.logLevel,
	}
}

// noCopy answers the calls about a slave's copy on other nodes.
func (a *Admin) noCopy(context.Context, *role.Services, json.RawMessage) (any, error) {
	return nil, a.lacks("keeps no copy of a master's data", "a slave")
}

func pauseWrites(paused bool) role.Action {
	return func(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
		if err := noBody(body); err != nil {
			return nil, err
		}
		_, err := s.Node.SetPaused(ctx, paused)
		return nil, err
	}
}

func resetClock(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		Time *time.Time `json:"time"`
	}
	if err := decode(body, &request, `the body must be {"time": "2006-01-02T15:04:05Z"}, or empty for the present time`); err != nil {
		return nil, err
	}
	var to uint64
	if request.Time != nil {
		to = uint64(max(request.Time.UnixMilli(), 1))
	}
	_, err := s.Node.SetClock(ctx, &serverpb.SetClockRequest{ClockMillis: to})
	return nil, err
}

// promote promotes a slave, and answers with the steps.
func promote(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		With    []string `json:"with"`
		Planned bool     `json:"planned"`
		Force   bool     `json:"force"`
		Abandon bool     `json:"abandon"`
	}
	if err := decode(body, &request, `the body must be {"with": ["HOST:PORT"], "planned": false, "force": false, "abandon": false}, or empty`); err != nil {
		return nil, err
	}
	type step struct {
		Step string `json:"step"`
		Text string `json:"text"`
		Era  uint64 `json:"era"`
	}
	var steps []step
	err := s.Promote(ctx, &serverpb.PromoteRequest{With: request.With, Planned: request.Planned, Force: request.Force, Abandon: request.Abandon}, func(p *serverpb.PromoteProgress) error {
		steps = append(steps, step{p.GetStep(), p.GetText(), p.GetEra()})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": "ok", "steps": steps}, nil
}

func takeBackup(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		Path string `json:"path"`
	}
	if err := ops.Decode(body, &request); err != nil || request.Path == "" {
		return nil, badBody(`the body must be {"path": "NAME"}, a path below backup-dir`)
	}
	said, err := s.Backup.Backup(ctx, &serverpb.BackupRequest{BackupPath: request.Path})
	if err != nil || said.GetMessage() == "" {
		return nil, err
	}
	return map[string]any{"status": "ok", "warning": said.GetMessage()}, nil
}

// restoreBackup replaces the database with a backup.
func restoreBackup(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		Path  string `json:"path"`
		Force bool   `json:"force"`
	}
	if err := ops.Decode(body, &request); err != nil || request.Path == "" {
		return nil, badBody(`the body must be {"path": "NAME"}, a path below backup-dir, and "force": true for the backup of another database`)
	}
	_, err := s.Backup.Restore(ctx, &serverpb.RestoreRequest{RestorePath: request.Path, Own: true, Force: request.Force})
	return nil, err
}

// backups answers /admin/backups: what is below this node's backup-dir.
func (a *Admin) backups(context.Context) (any, error) {
	list, err := backup.List(a.Node.Config.Storage.BackupDir)
	return map[string]any{"backups": list}, err
}

// nodeRequest is the body of a change of the membership.
type nodeRequest struct {
	URL       string `json:"node_url"`
	NonVoting bool   `json:"non_voting"`
	Force     bool   `json:"force"`
}

// changeNode adds or removes the node that the body names.
func changeNode(change func(ctx context.Context, s *role.Services, r nodeRequest) error) role.Action {
	return func(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
		var r nodeRequest
		if err := ops.Decode(body, &r); err != nil || r.URL == "" {
			return nil, badBody(`the body must be {"node_url": "http://HOST:PORT"}, the node's Raft address`)
		}
		return nil, change(ctx, s, r)
	}
}

func addNode(ctx context.Context, s *role.Services, r nodeRequest) error {
	_, err := s.Membership.AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: r.URL, NonVoting: r.NonVoting})
	return err
}

func removeNode(ctx context.Context, s *role.Services, r nodeRequest) error {
	_, err := s.Membership.RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: r.URL, Force: r.Force})
	return err
}

func transferLeadership(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		Target string `json:"target"`
	}
	if err := decode(body, &request, `the body must be {"target": "http://HOST:PORT"}, a member's Raft address, or empty`); err != nil {
		return nil, err
	}
	_, err := s.Membership.TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: request.Target})
	return nil, err
}

func stepDown(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	if err := noBody(body); err != nil {
		return nil, err
	}
	_, err := s.Membership.StepDown(ctx, nil)
	return nil, err
}

func snapshot(ctx context.Context, s *role.Services, body json.RawMessage) (any, error) {
	var request struct {
		VBucket string `json:"vbucket"`
	}
	if err := decode(body, &request, `the body must be {"vbucket": "NAME"}, or empty for all vBuckets`); err != nil {
		return nil, err
	}
	_, err := s.Membership.Snapshot(ctx, &serverpb.SnapshotRequest{VBucket: request.VBucket})
	return nil, err
}

// decode reads a body that may be empty; shape is the error for one that is not as it
// should be.
func decode(body json.RawMessage, into any, shape string) error {
	if len(body) == 0 {
		return nil
	}
	if err := ops.Decode(body, into); err != nil {
		return badBody(shape)
	}
	return nil
}

// noBody rejects the body of a call that takes none: it would have been meant to narrow the call.
func noBody(body json.RawMessage) error {
	return decode(body, &struct{}{}, "this call takes no body: it is about all that the node holds; leave the body out")
}

func badBody(shape string) error { return &ops.Error{Status: 400, Text: shape} }
