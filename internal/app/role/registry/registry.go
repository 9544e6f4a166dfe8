// Package registry is the role of a discovery node: it keeps the rows of the registry in
// a log as a database, and serves the registry in the place of keys.
package registry

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/discovery"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
)

// Log is the role that keeps the log of the rows: a standalone node or a member.
type Log interface {
	role.Role
	// Pool is the connections to the other nodes that keep it; nil for none.
	Pool() *peer.Pool
	// RegisterMembers registers what these ask each other.
	RegisterMembers(grpc.ServiceRegistrar)
}

// Registry is the role. What it does not do itself, the role that keeps its log does.
type Registry struct {
	Log
	node *node.Node
	// opened is nil until Open is done.
	opened atomic.Pointer[discovery.Registry]
}

var _ role.Role = (*Registry)(nil)

// New makes the role of a node over the role that keeps its log.
func New(n *node.Node, log Log) *Registry { return &Registry{Log: log, node: n} }

// Name implements role.Role.
func (*Registry) Name() string { return "a node of the registry" }

// Open implements role.Role.
func (r *Registry) Open(ctx context.Context) error {
	if err := r.Log.Open(ctx); err != nil {
		return err
	}
	cfg := &r.node.Config.Discovery.Server
	registry, err := discovery.New(discovery.Options{
		Store:            r.VBuckets()[0],
		Pool:             r.Pool(),
		StatusTTL:        cfg.StatusTTL,
		HeartbeatTimeout: cfg.HeartbeatTimeout,
		Limits:           discovery.Limits{Rows: cfg.MaxRows, Nodes: cfg.MaxNodes},
		Changed:          &r.node.Changed,
		Log:              r.node.Log,
	})
	if err != nil {
		return err
	}
	r.opened.Store(registry)
	return nil
}

// Register implements role.Role. The rows are not keys for clients to read and write.
func (r *Registry) Register(g grpc.ServiceRegistrar, _ *role.Services) {
	r.RegisterMembers(g)
	serverpb.RegisterDKVDiscoveryServer(g, r.opened.Load())
	peerpb.RegisterWitnessServer(g, r.opened.Load().Witness())
}

// Run implements role.Role. The registry answers as long as its replica does.
func (r *Registry) Run(_, below context.Context, _ *role.Services) error {
	return r.opened.Load().Run(below)
}

// Admin implements role.Role. A backup would hold no keys.
func (r *Registry) Admin() role.Admin {
	admin := r.Log.Admin()
	admin.Actions = map[string]role.Action{"/admin/backup": r.rejectBackup, "/admin/restore": r.rejectBackup}
	admin.Handlers = map[string]http.Handler{
		"/metrics/cluster": http.HandlerFunc(r.clusterMetrics),
	}
	return admin
}

func (r *Registry) rejectBackup(context.Context, *role.Services, json.RawMessage) (any, error) {
	return nil, kv.Errorf(kv.Unimplemented, "%s", role.Elsewhere(r.Name(), serverpb.DKVBackupRestore_ServiceDesc.ServiceName))
}

// Announced implements role.Role: the registry has no row of itself.
func (*Registry) Announced() bool { return false }

// Rows are those of all nodes that the registry knows, and of which the caller of ctx may know; none
// while it cannot say.
func (r *Registry) Rows(ctx context.Context) []*serverpb.RegionInfo {
	opened := r.opened.Load()
	if opened == nil {
		return nil
	}
	answer, err := opened.GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{})
	if err != nil {
		r.node.Log.Debug("the registry's rows cannot be shown", "error", err)
		return nil
	}
	return known(answer.GetRegionInfos(), auth.FromContext(ctx))
}

// known returns the rows of the databases that an identity may know of; nil may know of all.
func known(rows []*serverpb.RegionInfo, id *auth.Identity) []*serverpb.RegionInfo {
	if id == nil || id.Knows("") {
		return rows
	}
	out := make([]*serverpb.RegionInfo, 0, len(rows))
	for _, row := range rows {
		if id.Knows(row.GetDatabase()) {
			out = append(out, row)
		}
	}
	return out
}
