package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/discovery"
	"github.com/dkvdb/dkv/internal/discovery/announce"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/telemetry"
	"github.com/dkvdb/dkv/internal/version"
)

// vBucket is a part of the keyspace with its replica on this node.
type vBucket struct {
	name string
	hosted
}

// hosted is a replica as the process runs it.
type hosted interface {
	replica.Replica
	Run(ctx context.Context) error
	Close() error
	Readable() bool
	State() replica.State
	Served() <-chan struct{}
}

// node is everything that runs in the process. What is opened is closed in the
// reverse order.
type node struct {
	cfg  *config.Config
	log  *slog.Logger
	info master.NodeInfo

	// clock is what the node takes for the time.
	clock *clock.Clock
	reads *replica.Reads

	metrics      *prometheus.Registry
	grpcListener net.Listener
	http         *ops.Server
	audit        *slog.Logger

	// memberHosts are the hosts of the members, whose administrative calls are taken.
	memberHosts hosts
	// waiting is what the node tells before it is opened.
	waiting waiting

	dir     *datadir.Dir // nil where the node is diskless
	engines *engines
	guard   *diskspace.Guard

	// What follows is there once the node knows who it is, which for a member of
	// a cluster may take until others are up: see open.
	vBuckets []vBucket
	node     *master.Node
	backup   *master.Backup
	grpc     *server.Server
	// replication serves the change stream.
	replication *replication.Service

	// What follows is there where other nodes are: members of the same cluster, or a
	// slave's masters.
	pool   *peer.Pool
	router *route.Router

	// What follows is there in a cluster only.
	identity *bootstrap.Identity
	host     *replica.Host
	logGuard *diskspace.Guard // nil where the log is on the disk of the states
	cluster  *cluster.Cluster

	// What follows concerns discovery: the registry itself, or its clients' side.
	registry  *discovery.Registry
	announcer *announce.Announcer
	directory *announce.Directory
	// rows are a slave's masters, where the registry tells of them.
	rows *slave.Rows

	// opened tells that all of the above is there, and onOpened is called then.
	opened   atomic.Bool
	onOpened func()
	closers  []func() error
}

// newNode takes hold of addresses and folders, and of the state as well where the
// node is alone. It serves nothing yet.
func newNode(ctx context.Context, cfg *config.Config, log *slog.Logger, wrap func(storage.Engine) storage.Engine) (_ *node, err error) {
	if err := checkStart(cfg); err != nil {
		return nil, err
	}
	n := &node{cfg: cfg, log: log, metrics: telemetry.NewRegistry(version.Get())}
	defer func() {
		if err != nil {
			_ = n.close() // err says what matters
		}
	}()
	n.clock = n.newClock()
	n.reads = replica.NewReads()
	// The addresses first: whether they are free is known at once.
	if n.grpcListener, err = server.Listen(cfg.Network.ListenAddr); err != nil {
		return nil, err
	}
	n.onClose(ignoreClosed(n.grpcListener.Close))
	httpListener, err := ops.Listen(ctx, cfg.Network.HTTPListenAddr, cfg.IsSet("http-listen-addr"), log)
	if err != nil {
		return nil, err
	}
	n.onClose(ignoreClosed(httpListener.Close))
	address := cfg.Advertise(n.grpcListener.Addr())
	n.info = master.NodeInfo{
		Name:        cfg.Node.Name,
		Version:     version.String(),
		Role:        string(cfg.Role),
		Engine:      string(cfg.Storage.Engine),
		DC:          cfg.Node.DCID,
		Database:    n.database(),
		Address:     address,
		HTTPAddress: reachable(httpListener.Addr(), address),
		Started:     time.Now(),
	}
	if err := n.openFolder(wrap); err != nil {
		return nil, err
	}
	if n.audit, err = n.auditLog(); err != nil {
		return nil, err
	}
	if n.http, err = ops.New(httpListener, n.opsOptions()); err != nil {
		return nil, err
	}
	n.onClose(n.http.Close)
	n.metrics.MustRegister(n.http)
	if !cfg.InRaft() {
		return n, n.open(ctx)
	}
	return n, nil // who it is may take until others are up
}

// database is the name of what this node keeps.
func (n *node) database() string {
	if n.cfg.Role == config.RoleDiscovery {
		return registryDatabase
	}
	return n.cfg.Node.Database
}

func (n *node) onClose(f func() error) { n.closers = append(n.closers, f) }

// open finds out who the node is, opens its replicas and makes the services over
// them.
func (n *node) open(ctx context.Context) error {
	open := n.openAlone
	switch {
	case n.cfg.InRaft():
		open = n.openMember
	case n.cfg.Role == config.RoleSlave:
		open = n.openSlave
	}
	if err := open(ctx); err != nil {
		return err
	}
	if err := n.assemble(); err != nil {
		return err
	}
	n.opened.Store(true)
	return nil
}

// run serves until ctx ends, then stops from the outside in: gRPC drains while
// everything below it still works, then the replicas stop, then HTTP, which can
// be asked about the others until the end.
func (n *node) run(ctx context.Context, reload func(context.Context) error) error {
	// below outlives ctx, so that what is being drained still finds its replica.
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return reload(gctx) })
	g.Go(func() error { return n.http.Run(below) })
	if n.guard != nil {
		g.Go(func() error { n.guard.Run(below); return nil })
	}
	g.Go(func() error {
		defer stopBelow()
		if !n.opened.Load() {
			if err := n.open(gctx); err != nil {
				if ctx.Err() != nil {
					return nil // told to stop before there was anything to stop
				}
				return err
			}
			n.onOpened()
		}
		return n.serve(gctx, below)
	})
	return g.Wait()
}

// serve runs what open has made.
func (n *node) serve(ctx, below context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	replicas, stopReplicas := context.WithCancel(below)
	defer stopReplicas()
	g.Go(func() error {
		defer stopReplicas()
		return n.grpc.Run(gctx)
	})
	if n.cluster != nil {
		// While the others can ask this node the same.
		if err := n.cluster.Confirm(gctx); err != nil {
			g.Go(func() error { return err })
			return g.Wait()
		}
		g.Go(func() error { return n.cluster.Run(gctx) })
	}
	for _, v := range n.vBuckets {
		g.Go(func() error { return v.Run(replicas) })
	}
	if n.registry != nil {
		g.Go(func() error { return n.registry.Run(replicas) })
	}
	switch n.cfg.Role {
	case config.RoleSlave:
		g.Go(func() error { n.enrol(gctx); return nil })
	case config.RoleMaster, config.RoleNone:
		g.Go(func() error { n.replication.KeepSlaves(gctx, n.clock.Doubtful, n.log); return nil })
	}
	if n.announcer != nil {
		g.Go(func() error { return n.announcer.Run(gctx) })
		g.Go(func() error { return n.directory.Run(gctx) })
		g.Go(func() error { n.heed(gctx); return nil })
		g.Go(func() error { n.tellChanges(gctx); return nil })
	}
	if n.logGuard != nil {
		g.Go(func() error { n.logGuard.Run(gctx); return nil })
	}
	g.Go(func() error {
		for _, v := range n.vBuckets {
			select {
			case <-v.Served():
			case <-gctx.Done():
				return nil
			}
		}
		if !n.awaitReadable(gctx) {
			return nil
		}
		n.grpc.SetServing(n.lagging() == nil)
		n.log.Info("serving", "grpc", n.info.Address, "http", n.info.HTTPAddress)
		n.warnOfExposure()
		n.tellHealth(gctx)
		return nil
	})
	return g.Wait()
}

const healthInterval = 100 * time.Millisecond

// awaitReadable waits until there is something to read, which on a new slave takes
// as long as its first snapshot; false means that ctx has ended.
func (n *node) awaitReadable(ctx context.Context) bool {
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for !n.readable() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// tellHealth keeps what gRPC's health checks are told true: a node serves as long
// as it serves reads, a slave as long as these are not too old. Whether it takes
// writes, each of them is told.
func (n *node) tellHealth(ctx context.Context) {
	t := time.NewTicker(healthInterval)
	defer t.Stop()
	for {
		n.grpc.SetServing(n.readable() && n.lagging() == nil)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// readable tells whether reads are served, of every vBucket. A member of a cluster
// whose storage has failed has others that serve in its place.
func (n *node) readable() bool {
	if !n.opened.Load() {
		return false
	}
	for _, v := range n.vBuckets {
		if !v.Readable() || n.cluster != nil && v.State() == replica.Failed {
			return false
		}
	}
	return true
}

// serving tells whether requests are taken.
func (n *node) serving() bool { return n.readable() && n.grpc.Serving() }

// warnOfExposure says which addresses other hosts reach without authentication.
func (n *node) warnOfExposure() {
	if n.cfg.Network.AllowInsecure {
		n.log.Warn("allow-insecure is set: administrative calls of every host that reaches this node are taken without authentication")
	}
	const all = "NO AUTHENTICATION: every host that reaches this address can %s; listen on a loopback address or keep the network closed"
	for _, l := range []struct {
		key, can string
		addr     net.Addr
	}{
		{"listen-addr", "read and change all data", n.grpcListener.Addr()},
		{"http-listen-addr", "read this node's state and metrics", n.http.Addr()},
		{"nexus-node-url", "take part in the Raft log, and so read and change all data", n.raftAddr()},
	} {
		if tcp, ok := l.addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			n.log.Warn(fmt.Sprintf(all, l.can), "exposed", l.key+" "+l.addr.String())
		}
	}
}

// raftAddr is where the Raft port is bound, as far as the url says; nil for none.
func (n *node) raftAddr() net.Addr {
	if n.identity == nil {
		return nil
	}
	addr, err := net.ResolveTCPAddr("tcp", n.identity.Address())
	if err != nil {
		return nil
	}
	return addr
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
	case kv.Unavailable, kv.NotOwner:
		return 503
	default:
		return 500
	}
}
