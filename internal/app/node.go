package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/version"
)

// node is a standalone dkvsrv: everything that runs in the process. What is
// opened is closed in the reverse order.
type node struct {
	cfg  *config.Config
	log  *slog.Logger
	info master.NodeInfo

	registry *prometheus.Registry
	guard    *diskspace.Guard
	local    *replica.Local
	node     *master.Node
	backup   *master.Backup
	grpc     *server.Server
	http     *ops.Server

	closers []func() error
}

// newNode opens everything and serves nothing yet.
func newNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *node, err error) {
	if err := checkBuilt(cfg); err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: log, registry: telemetry.NewRegistry(version.Get())}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	// The addresses first: whether they are free is known at once.
	grpcListener, err := server.Listen(cfg.Network.ListenAddr)
	if err != nil {
		return nil, err
	}
	n.onClose(ignoreClosed(grpcListener.Close))
	httpListener, err := ops.Listen(ctx, cfg.Network.HTTPListenAddr, cfg.IsSet("http-listen-addr"), log)
	if err != nil {
		return nil, err
	}
	n.onClose(ignoreClosed(httpListener.Close))
	if err := n.openStorage(); err != nil {
		return nil, err
	}
	n.info = master.NodeInfo{
		ID:          master.StandaloneID,
		Cluster:     n.local.Status().Identity.Cluster,
		Name:        cfg.Node.Name,
		Version:     version.String(),
		Role:        string(cfg.Role),
		Engine:      string(cfg.Storage.Engine),
		DC:          cfg.Node.DCID,
		Database:    cfg.Node.Database,
		Address:     cfg.Advertise(grpcListener.Addr()),
		HTTPAddress: reachable(httpListener.Addr(), cfg.Advertise(grpcListener.Addr())),
		Started:     time.Now(),
	}
	if err := n.assemble(grpcListener, httpListener); err != nil {
		return nil, err
	}
	return n, nil
}

// checkBuilt refuses what this version cannot do, rather than doing less than
// was asked for.
func checkBuilt(cfg *config.Config) error {
	if cfg.Role != config.RoleNone {
		return fmt.Errorf("role %s is not part of this version of dkvsrv; run it standalone (--role none)", cfg.Role)
	}
	if cfg.Node.VBuckets > 1 {
		return fmt.Errorf("vbuckets is %d, but a standalone node has one vBucket; leave it at 1", cfg.Node.VBuckets)
	}
	return nil
}

func (n *node) onClose(f func() error) { n.closers = append(n.closers, f) }

func (n *node) openStorage() error {
	cfg := &n.cfg.Storage
	engines, err := newEngines(cfg, n.log)
	if err != nil {
		return err
	}
	n.onClose(func() error { engines.close(); return nil })
	var dir *datadir.Dir
	var generations *datadir.Generations
	if !cfg.Diskless {
		dir, err = datadir.Open(cfg.DBFolder, datadir.Identity{
			Engine:   string(cfg.Engine),
			Database: n.cfg.Node.Database,
			VBucket:  n.cfg.Node.VBucket,
			VBuckets: n.cfg.Node.VBuckets,
		})
		if err != nil {
			return err
		}
		n.onClose(dir.Close)
		if generations, err = dir.VBucket(n.cfg.Node.VBucket); err != nil {
			return err
		}
		n.guard, err = diskspace.New(cfg.DBFolder, func(total uint64) uint64 {
			return uint64(cfg.ReserveOf(config.Size(total)))
		})
		if err != nil {
			return err
		}
	}
	n.local, err = replica.OpenLocal(replica.LocalOptions{
		StateOptions: replica.StateOptions{
			Database:    n.cfg.Node.Database,
			VBucket:     n.cfg.Node.VBucket,
			Open:        engines.open,
			OpenKind:    engines.openKind,
			Generations: generations,
			Guard:       n.guard,
			Retention: changelog.Retention{
				MaxBytes: uint64(n.cfg.Changelog.MaxBytes),
				MaxAge:   n.cfg.Changelog.MaxAge,
			},
			Version: version.String(),
			Log:     n.log,
		},
		BatchLimit: engines.batchLimit(),
	})
	if errors.Is(err, storage.ErrCorrupt) {
		return fmt.Errorf("open storage: %w; restore a backup into an empty db-folder", err)
	}
	if err != nil {
		return fmt.Errorf("open storage: %w", err)
	}
	n.onClose(n.local.Close)
	if dir != nil {
		return dir.Claim()
	}
	return nil
}

// assemble makes the services and the servers around them.
func (n *node) assemble(grpcListener, httpListener net.Listener) error {
	limits := n.cfg.Limits
	keyspace := master.NewKeyspace(master.VBucket{Name: n.cfg.Node.VBucket, Replica: n.local})
	backupDir, err := filepath.Abs(n.cfg.Storage.BackupDir)
	if err != nil {
		return fmt.Errorf("backup-dir: %w", err)
	}
	n.node = master.NewNode(keyspace, n.info)
	n.backup = master.NewBackup(keyspace, backupDir)
	audit, err := n.auditLog()
	if err != nil {
		return err
	}
	n.registry.MustRegister(newCollector(n))
	n.grpc = server.New(server.Options{
		Listener: grpcListener,
		Register: func(r grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(r, master.NewKV(keyspace, master.Limits{
				Key:      int(limits.KeySize),
				Value:    int(limits.ValueSize),
				Batch:    int(limits.BatchSize),
				Response: int(limits.MessageSize),
			}))
			serverpb.RegisterDKVReplicationServer(r, master.NewReplication(keyspace))
			serverpb.RegisterDKVBackupRestoreServer(r, n.backup)
			serverpb.RegisterDKVClusterServer(r, n.node)
			serverpb.RegisterDKVDiscoveryNodeServer(r, n.node)
			serverpb.RegisterDKVNodeServer(r, n.node)
		},
		MaxMessageSize: int(limits.MessageSize),
		MaxInFlight:    limits.RequestsInFlight,
		MaxStreams:     limits.Streams,
		SlowThreshold:  n.cfg.Log.SlowThreshold,
		Audited:        master.Audited,
		DrainTimeout:   n.cfg.Ops.DrainTimeout,
		Metrics:        n.registry,
		Log:            n.log,
		Audit:          audit,
	})
	n.onClose(func() error { n.grpc.Close(); return nil })
	n.http, err = ops.New(httpListener, n.opsOptions())
	if err != nil {
		return err
	}
	n.onClose(n.http.Close)
	return nil
}

// auditLog opens the file for administrative calls; nil means the common log.
func (n *node) auditLog() (*slog.Logger, error) {
	if n.cfg.Log.Audit == "" {
		return nil, nil
	}
	f, err := os.OpenFile(n.cfg.Log.Audit, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("audit-log: %w; name a file that this user may write to", err)
	}
	n.onClose(f.Close)
	return telemetry.NewLogger(telemetry.LogOptions{
		Writer: io.Writer(f),
		JSON:   n.cfg.Log.Format == config.LogJSON,
		Level:  slog.LevelInfo,
		Node:   n.cfg.Node.Name,
	}), nil
}

// run serves until ctx ends, then stops from the outside in: gRPC drains while
// everything below it still works, then the replica stops, then HTTP, which
// can be asked about the others until the end.
func (n *node) run(ctx context.Context, reload func(context.Context) error) error {
	// below outlives ctx, so that what is being drained still finds its replica.
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return reload(gctx) })
	g.Go(func() error {
		defer stopBelow()
		return n.grpc.Run(gctx)
	})
	g.Go(func() error { return n.local.Run(below) })
	g.Go(func() error { return n.http.Run(below) })
	if n.guard != nil {
		g.Go(func() error { n.guard.Run(below); return nil })
	}
	n.grpc.SetServing(true)
	n.log.Info("serving", "grpc", n.info.Address, "http", n.info.HTTPAddress)
	err := g.Wait()
	n.log.Info("stopped")
	return err
}

// close releases everything, newest first. It may be called again.
func (n *node) close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		if err := n.closers[i](); err != nil {
			n.log.Warn("closing", "error", err)
		}
	}
	n.closers = nil
}

// reachable is the address under which others find a listener: where it listens
// on all addresses, that of the host which is advertised.
func reachable(bound net.Addr, advertised string) string {
	host, port, err := net.SplitHostPort(bound.String())
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
		return bound.String()
	}
	if host, _, err = net.SplitHostPort(advertised); err != nil {
		return bound.String()
	}
	return net.JoinHostPort(host, port)
}

func ignoreClosed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// httpStatus maps an error's kind for the HTTP server.
func httpStatus(err error) int {
	switch kv.KindOf(err) {
	case kv.Invalid:
		return 400
	case kv.NotFound:
		return 404
	case kv.Precondition:
		return 409
	case kv.Exhausted:
		return 507
	case kv.Unimplemented:
		return 501
	case kv.Unavailable:
		return 503
	default:
		return 500
	}
}
