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
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/backup"
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
	grpcAddr net.Addr
	http     *ops.Server

	closers []func() error
}

// newNode opens everything and serves nothing yet.
func newNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *node, err error) {
	if err := checkStart(cfg); err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: log, registry: telemetry.NewRegistry(version.Get())}
	defer func() {
		if err != nil {
			_ = n.close() // err says what matters
		}
	}()
	// The addresses first: whether they are free is known at once.
	grpcListener, err := server.Listen(cfg.Network.ListenAddr)
	if err != nil {
		return nil, err
	}
	n.onClose(ignoreClosed(grpcListener.Close))
	n.grpcAddr = grpcListener.Addr()
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

// checkStart refuses what a start would refuse and can be told without opening
// anything, what this version cannot do among it: better than doing less than was
// asked for.
func checkStart(cfg *config.Config) error {
	if cfg.Role != config.RoleNone {
		return fmt.Errorf("role %s is not part of this version of dkvsrv; run it standalone (--role none)", cfg.Role)
	}
	if cfg.Node.VBuckets > 1 {
		return fmt.Errorf("vbuckets is %d, but a standalone node has one vBucket; leave it at 1", cfg.Node.VBuckets)
	}
	if ini := cfg.Storage.EngineINI; ini != "" {
		if fi, err := os.Stat(ini); err != nil {
			return fmt.Errorf("db-engine-ini: %w; name a file with RocksDB options, or leave the key empty", err)
		} else if fi.IsDir() {
			return fmt.Errorf("db-engine-ini: %s is a folder; name a file with RocksDB options, or leave the key empty", ini)
		}
	}
	if fi, err := os.Stat(cfg.Storage.BackupDir); err == nil && !fi.IsDir() {
		return fmt.Errorf("backup-dir: %s is a file; name a folder, which need not exist yet", cfg.Storage.BackupDir)
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
		if usage := n.guard.Usage(); usage.Reserve >= usage.Total {
			return fmt.Errorf("disk-reserve: %d MiB are to be kept free of a file system of %d MiB, so that nothing could be written; lower it",
				usage.Reserve>>20, usage.Total>>20)
		}
		n.guard.AtLeast(engines.leastFree())
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
	if err != nil {
		return fmt.Errorf("open storage: %w%s", err, advice(err))
	}
	n.onClose(n.local.Close)
	if dir != nil {
		return dir.Claim()
	}
	return nil
}

// advice is what to do about storage that does not open, where the error does
// not say it itself.
func advice(err error) string {
	switch {
	case strings.Contains(err.Error(), "restore "):
		return ""
	case errors.Is(err, storage.ErrCorrupt):
		return "; restore a backup into an empty db-folder"
	case errors.Is(err, storage.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return "; make room on the file system of db-folder and start again"
	}
	return ""
}

// assemble makes the services and the servers around them.
func (n *node) assemble(grpcListener, httpListener net.Listener) error {
	limits := n.cfg.Limits
	keyspace := master.NewKeyspace(master.VBucket{Name: n.cfg.Node.VBucket, Replica: n.local})
	backupDir, err := filepath.Abs(n.cfg.Storage.BackupDir)
	if err != nil {
		return fmt.Errorf("backup-dir: %w", err)
	}
	if err := backup.Sweep(backupDir); err != nil {
		n.log.Warn("cannot look for leftovers of backups", "backup-dir", backupDir, "error", err)
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
		MaxMemory:      int64(limits.MemoryInFlight),
		Bulky:          master.Bulky,
		SlowThreshold:  n.cfg.Log.SlowThreshold,
		Audited:        master.Audited,
		DrainTimeout:   n.cfg.Ops.DrainTimeout,
		Metrics:        n.registry,
		Log:            n.log,
		Audit:          audit,
	})
	n.onClose(func() error { n.grpc.Close(); return nil })
	n.http, err = ops.New(httpListener, n.opsOptions(audit))
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
	g.Go(func() error {
		select {
		case <-n.local.Served():
			n.grpc.SetServing(true)
			n.log.Info("serving", "grpc", n.info.Address, "http", n.info.HTTPAddress)
			n.warnOfExposure()
			n.tellHealth(gctx)
		case <-gctx.Done():
		}
		return nil
	})
	return g.Wait()
}

const healthInterval = 100 * time.Millisecond

// tellHealth keeps what gRPC's health checks are told true: a node serves as long
// as it serves reads. Whether it takes writes, each of them is told.
func (n *node) tellHealth(ctx context.Context) {
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		n.grpc.SetServing(n.local.Readable())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// warnOfExposure says which addresses other hosts reach without authentication.
func (n *node) warnOfExposure() {
	const all = "NO AUTHENTICATION: every host that reaches this address can %s; listen on a loopback address or keep the network closed"
	for _, l := range []struct {
		key, can string
		addr     net.Addr
	}{
		{"listen-addr", "read and change all data", n.grpcAddr},
		{"http-listen-addr", "read this node's state and metrics", n.http.Addr()},
	} {
		if tcp, ok := l.addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			n.log.Warn(fmt.Sprintf(all, l.can), "exposed", l.key+" "+l.addr.String())
		}
	}
}

// close releases everything, newest first. It may be called again.
func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return nil
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
