// Package admin presents a node over HTTP: its health and probes, its status, and the
// calls by which an operator changes it. It judges nothing itself; see package condition.
package admin

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/console"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/tracing"
)

// Admin is the node as it is presented. Until the role is open, Readiness and Condition
// say why it is not, and Services is not called.
type Admin struct {
	Node *node.Node
	Role role.Role
	// Readiness and Condition judge the node.
	Readiness func() condition.Readiness
	Condition func() condition.Node
	// Services are the gRPC services, which do most of what an operator asks for.
	Services func() *role.Services
	// Calls makes calls of the node's own gRPC server.
	Calls func() Calls
	// Rows are what the registry says of the nodes of the database.
	Rows func() []*serverpb.RegionInfo
	// Registry are the nodes of the registry.
	Registry func() []*modelspb.NodeInfo

	insecure string // as in Access
}

// Access is what the HTTP server needs besides the node itself.
type Access struct {
	// Guard decides who may ask for which path.
	Guard *access.Guard
	// Insecure is what other hosts may do without authentication; "" for nothing.
	Insecure string
	// Audit logs administrative and rejected calls; nil means the common log.
	Audit *audit.Log
	// AccessLog and Tracer are of requests; each may be nil.
	AccessLog *accesslog.Log
	Tracer    *tracing.Tracer
	Gatherer  prometheus.Gatherer
	// GraceFor is as in ops.Options.
	GraceFor func(cause error) time.Duration
}

// Options are those of the HTTP server that presents the node.
func (a *Admin) Options(o Access) ops.Options {
	a.insecure = o.Insecure
	special := a.Role.Admin()
	views := map[string]ops.View{
		"/admin/cluster/status":  a.clusterStatus,
		"/admin/raft/state":      a.logState,
		"/admin/replication/lag": a.replicationLag,
		"/admin/backups":         a.backups,
		"/admin/node":            a.report,
	}
	if special.Handlers["/metrics/cluster"] == nil {
		views["/metrics/cluster"] = a.clusterMetrics
	}
	maps.Copy(views, special.Views)
	actions := a.common()
	maps.Copy(actions, special.Actions)
	handlers := map[string]http.Handler{console.Path: console.Assets()}
	maps.Copy(handlers, special.Handlers)
	name, _, _ := net.SplitHostPort(a.Node.Info.HTTPAddress) // "" if there is no address yet
	return ops.Options{
		Name:      name,
		AccessLog: o.AccessLog,
		Tracer:    o.Tracer,
		TLS:       a.Node.Certs.Acceptor("http", certs.Anyone, "http/1.1"),
		Logger:    a.Node.Log,
		Audit:     o.Audit,
		Access:    o.Guard,
		Gatherer:  o.Gatherer,
		Serving:   a.serving,
		Health:    a.health,
		Live: []ops.Check{
			{Name: "process", Probe: func(context.Context) error { return nil }},
		},
		Ready: []ops.Check{
			{Name: "grpc", Probe: a.probeGRPC},
			{Name: "storage", Probe: a.probeStorage},
		},
		Views:    a.whenOpen(views),
		Actions:  a.withServices(actions),
		Handlers: handlers,
		Console:  console.Page(),
		Nodes:    a.neighbours(a.Node.Log, a.Node.Certs),
		Keys:     a.keys(o.Guard),
		Events:   a.events,
		Vars:     map[string]func() any{"dkv": func() any { return a.health(context.Background()) }},
		Pprof:    a.Node.Config.Ops.Pprof,
		// Health is asked for when all else is used up.
		MaxConnections: config.HTTPFiles(config.OpenFiles()),
		GraceFor:       o.GraceFor,
		StatusOf:       httpStatus,
	}
}

// starting is the error of a call that only an open node can answer; nil if it is open.
func (a *Admin) starting() error {
	if r := a.Readiness(); r.Starting != nil {
		return kv.Errorf(kv.Unavailable, "%w", r.Starting)
	}
	return nil
}

// whenOpen has views answer why the node is not open until it is.
func (a *Admin) whenOpen(views map[string]ops.View) map[string]ops.View {
	for path, view := range views {
		views[path] = func(ctx context.Context) (any, error) {
			if err := a.starting(); err != nil {
				return nil, err
			}
			return view(ctx)
		}
	}
	return views
}

// withServices gives actions the services, and has them answer why the node is not open
// until it is.
func (a *Admin) withServices(actions map[string]role.Action) map[string]ops.Action {
	out := make(map[string]ops.Action, len(actions))
	for path, action := range actions {
		out[path] = func(ctx context.Context, body json.RawMessage) (any, error) {
			if err := a.starting(); err != nil {
				return nil, err
			}
			return action(ctx, a.Services(), body)
		}
	}
	return out
}

// httpStatus maps an error's kind for the HTTP server.
func httpStatus(err error) int {
	switch kv.KindOf(err) {
	case kv.Invalid:
		return http.StatusBadRequest
	case kv.NotFound:
		return http.StatusNotFound
	case kv.Unauthenticated:
		return http.StatusUnauthorized
	case kv.Denied:
		return http.StatusForbidden
	case kv.Precondition, kv.TooLate, kv.OtherCluster, kv.Lost:
		return http.StatusConflict
	case kv.Exhausted:
		return http.StatusInsufficientStorage
	case kv.Unimplemented:
		return http.StatusNotImplemented
	case kv.Unavailable, kv.NotOwner, kv.NotConfirmed:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
