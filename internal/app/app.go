package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/accesslog"
	"github.com/dkvdb/dkv/internal/app/admin"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/hosts"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/app/role/member"
	"github.com/dkvdb/dkv/internal/app/role/registry"
	"github.com/dkvdb/dkv/internal/app/role/slave"
	"github.com/dkvdb/dkv/internal/app/role/standalone"
	"github.com/dkvdb/dkv/internal/app/rows"
	"github.com/dkvdb/dkv/internal/app/succession"
	"github.com/dkvdb/dkv/internal/audit"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/standby/promotion"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/tracing"
	"github.com/dkvdb/dkv/internal/version"
)

// app is everything that runs in the process: a node, its role, and the servers around
// them. DESIGN.md has the order in which it starts and stops.
type app struct {
	node    *node.Node
	role    role.Role
	metrics *prometheus.Registry
	http    *ops.Server
	audit   *audit.Log
	// tracer makes the spans of requests; nil if there is no collector for them.
	tracer *tracing.Tracer
	// requests is the access log; nil if there is none.
	requests *accesslog.Log
	// memberHosts are the hosts of the cluster's members, which forward administrative
	// calls.
	memberHosts hosts.Known
	// ownHosts are the addresses of this machine.
	ownHosts hosts.Machine
	// guard decides who may make which call.
	guard *access.Guard

	// part is what promotions have made of the node.
	part promotion.Part

	// open makes these.
	services   *role.Services
	succession *succession.Service
	grpc       *server.Server
	rows       rows.Client
	// opened is set once open is done, and onOpened is called then.
	opened   atomic.Bool
	onOpened func()
	// onStarted is called when all vBuckets have begun to serve.
	onStarted func()
}

// newApp binds the addresses and locks the data folder, and opens the role unless that
// may have to wait for other nodes. It serves nothing yet.
func newApp(ctx context.Context, cfg *config.Config, part promotion.Part, log *slog.Logger, p Process) (_ *app, err error) {
	if err := node.CheckStart(cfg); err != nil {
		return nil, err
	}
	n, err := node.New(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = n.Close() // err is the one to report
		}
	}()
	n.Became = succession.Became(part)
	if s := part.Superseded; s != nil && !s.Rejoined {
		n.Yielded = succession.Superseded(s)
	} else if s == nil && part.Stopped.Holds() {
		n.Yielded, n.Stopped = succession.Stopped(part.Stopped), part.Stopped.Promotion
		n.Lends = succession.Lends(cfg, part.Stopped)
	}
	switch r := part.Promotion; {
	case r == nil || r.Step != promotion.Done:
	case len(r.Nodes) == 0:
		n.Promotion = r.NewMasters()
	default:
		n.SetPromotion = r.ID
	}
	n.Info.Became = n.Became
	a := &app{node: n, part: part, role: roleOf(n), metrics: telemetry.NewRegistry(version.Get())}
	n.Clock = a.role.NewClock(clock.Options{MaxJump: cfg.Ops.MaxClockJump, Wall: p.Wall, Elapsed: lease.SystemClock{}.Now, Log: log})
	if err := n.OpenFolder(p.WrapEngine); err != nil {
		return nil, node.StartError(err)
	}
	a.guard = a.newGuard()
	if a.audit, err = a.openAuditLog(); err != nil {
		return nil, err
	}
	if a.requests, err = a.openAccessLog(); err != nil {
		return nil, err
	}
	if a.tracer, err = a.openTracer(); err != nil {
		return nil, err
	}
	if err := a.newHTTP(); err != nil {
		return nil, err
	}
	if a.role.NeedsOthers() {
		return a, nil // run opens it, while HTTP answers what it waits for
	}
	return a, a.open(ctx)
}

// roleOf makes the role that a node is configured for.
func roleOf(n *node.Node) role.Role {
	switch n.Config.Role {
	case config.RoleSlave:
		return slave.New(n)
	case config.RoleDiscovery:
		return registry.New(n, logOf(n))
	default:
		return logOf(n)
	}
}

// logOf makes the role of a node that keeps a log of its own. Each role takes memory for every
// vBucket until the node is closed.
func logOf(n *node.Node) registry.Log {
	if n.Config.InRaft() {
		return member.New(n)
	}
	return standalone.New(n)
}

// newHTTP makes the HTTP server, which answers before the role is open.
func (a *app) newHTTP() (err error) {
	document := &admin.Admin{
		Node:      a.node,
		Role:      a.role,
		Readiness: a.readiness,
		Condition: a.condition,
		Services:  func() *role.Services { return a.services },
		Calls:     func() admin.Calls { return a.grpc },
		Rows:      func() []*serverpb.RegionInfo { return a.rows.Rows() },
		Registry:  func() []*modelspb.NodeInfo { return a.rows.Registry() },
	}
	a.http, err = ops.New(a.node.HTTP, document.Options(admin.Access{
		Guard: a.guard, Audit: a.audit, AccessLog: a.requests, Tracer: a.tracer, Gatherer: a.metrics, Insecure: a.insecure(), GraceFor: a.drainFor,
	}))
	if err != nil {
		return err
	}
	a.node.OnClose(a.http.Close)
	a.metrics.MustRegister(a.node.Collectors...)
	return a.metrics.Register(a.http)
}

// open opens the role and makes the services over its replicas.
func (a *app) open(ctx context.Context) error {
	if err := a.role.Open(ctx); err != nil {
		return node.StartError(err)
	}
	var err error
	if a.services, err = role.NewServices(a.node, a.role); err != nil {
		return err
	}
	if a.succession, err = succession.New(a.node, a.role, a.part); err != nil {
		return err
	}
	a.services.Promote = a.succession.Promote
	source := &rows.Source{
		Info:      &a.node.Info,
		Condition: a.condition,
		Followers: a.services.Replication.Followers,
		URLs:      a.role.Cluster().URLs,
	}
	if a.rows, err = rows.NewClient(a.node, a.role, source); err != nil {
		return err
	}
	a.registerMetrics()
	a.grpc = a.newGRPC(source)
	a.node.OnClose(func() error { a.grpc.Close(); return nil })
	a.opened.Store(true)
	return nil
}

func (a *app) registerMetrics() {
	database := a.node.Layout.Database
	a.metrics.MustRegister(
		metrics.NewNode(metrics.Options{
			Database:    database,
			Condition:   func() []condition.VBucket { return a.condition().VBuckets },
			Stored:      a.stored,
			Usage:       a.node.Guard.Usage,
			Memory:      int64(config.ThisHost().Memory()),
			Followers:   a.services.Replication.Followers,
			Insecure:    a.insecure(),
			SharesCache: a.node.Info.SharesCache,
			Role:        a.node.Info.Role,
			Source:      a.role.Metrics(),
		}),
		metrics.NewClock(database, a.node.Clock, a.role.Cluster().Clocks),
	)
	if a.node.Config.Role != config.RoleDiscovery {
		a.metrics.MustRegister(a.succession.Metrics())
	}
}

// stored returns what the vBuckets take.
func (a *app) stored() []replica.Usage {
	vBuckets := a.role.VBuckets()
	out := make([]replica.Usage, 0, len(vBuckets))
	for _, v := range vBuckets {
		out = append(out, v.Usage())
	}
	return out
}

// readiness judges at next to no cost whether the node can serve.
func (a *app) readiness() condition.Readiness {
	if !a.opened.Load() {
		return condition.Readiness{Starting: a.node.Waiting.Reason()}
	}
	r := condition.Readiness{Accepts: a.grpc.Serving()}
	vBuckets := len(a.node.Layout.VBuckets)
	for i := range vBuckets {
		r.Fitness = append(r.Fitness, condition.Fit(a.role.Facts(i), condition.FreshFor(vBuckets)))
	}
	return r
}

// condition judges the node.
func (a *app) condition() condition.Node {
	if !a.opened.Load() {
		return condition.Judge(condition.Evidence{Readiness: a.readiness()})
	}
	info, cluster := &a.node.Info, a.role.Cluster()
	e := condition.Evidence{Names: a.node.Layout.VBuckets}
	vBuckets := a.role.VBuckets()
	e.Replicas = make([]replica.Status, 0, len(vBuckets))
	for _, v := range vBuckets {
		e.Replicas = append(e.Replicas, v.Status())
	}
	// Whether the node leads is looked at behind the term: a leader that was replaced between
	// the two must not say that it leads in its successor's term.
	e.Readiness = a.readiness()
	e.Self = condition.Self{ID: info.ID, Address: info.Address}
	e.Removal = a.removal(e.Replicas)
	e.Up = time.Since(info.Started)
	e.Clock, e.Clocks = a.node.Clock, cluster.Clocks()
	e.Missing, e.TimingFault = cluster.Missing(), cluster.TimingFault()
	e.Unanswered = succession.Unanswered(a.role)
	e.Certificates = a.node.Certs.Fault(time.Now())
	e.Rejection = a.rows.Rejection()
	e.AuditFailure, e.AuthFailure = a.audit.Failure(), a.node.AuthFailure()
	return condition.Judge(e)
}

// removal is what there is to say if this node was removed from a vBucket.
func (a *app) removal(replicas []replica.Status) string {
	for i := range replicas {
		if replicas[i].State == replica.Removed {
			return a.role.Removal()
		}
	}
	return ""
}

// openAuditLog opens the audit log.
func (a *app) openAuditLog() (*audit.Log, error) {
	cfg := &a.node.Config.Log
	l, err := audit.New(audit.Options{
		File: cfg.Audit, MaxSize: int64(cfg.AuditSize), Files: cfg.AuditFiles, Required: cfg.AuditRequired,
		Node: a.node.Config.Node.Name, Database: a.node.Layout.Database, Common: a.node.Log, Keep: a.keepAudit(),
	})
	if err != nil {
		return nil, err
	}
	a.node.OnClose(l.Close)
	a.node.RunBeside(l.Run)
	a.node.OnReload(l.Reopen)
	return l, a.metrics.Register(l)
}

// keepAudit keeps the lines of the audit file beside the last events of the log; nil if nothing
// keeps these.
func (a *app) keepAudit() func([]slog.Attr) {
	recent := telemetry.RecentOf(a.node.Log)
	if recent == nil {
		return nil
	}
	return func(attrs []slog.Attr) { recent.Keep(slog.LevelInfo, admin.AuditMessage, attrs...) }
}
