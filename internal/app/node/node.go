// Package node is what every role of dkvsrv is built on: the configuration, the
// addresses, the clock, the data folder with its engines, and the list of what has to be
// closed again. It does not depend on the role beyond the Layout of the data folder.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/auth/identify"
	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/signal"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/task"
	"github.com/dkvdb/dkv/internal/version"
)

// Node is a node before it has a role. New binds the addresses and OpenFolder locks the
// data folder; a role then opens replicas in it. Close undoes all of it.
type Node struct {
	Config *config.Config
	Log    *slog.Logger
	Layout Layout
	// Info is complete once the role is open, which is when the id of the node and that
	// of its cluster are known.
	Info maintenance.NodeInfo

	// Clock is what the node takes for the time. The role makes it.
	Clock *clock.Clock
	// Reads bounds the reads of all replicas together.
	Reads *state.Reads

	// Became says in a sentence what a promotion has made of the node; empty if it is what it
	// is configured to be. Yielded is why it serves nothing any more; empty if it serves.
	Became, Yielded string
	// Stopped is the promotion that has stopped this master, which may fetch the changes of its
	// vBuckets; empty for none. Lends are the folders with the states of those vBuckets whose own
	// lack the end of their log.
	Stopped string
	Lends   map[string]string
	// Promotion is the id of the promotion that has made the node a master, which is that of
	// its masters; empty for none. SetPromotion is that of a node whose masters are a set, which
	// the release before named by it.
	Promotion, SetPromotion string

	// Changed is raised when the condition of a vBucket may have changed.
	Changed signal.Signal

	// Tasks is what the node does at this moment that takes a while.
	Tasks task.List

	// GRPC and HTTP are bound from the start on, so that no other process takes them.
	GRPC, HTTP net.Listener
	// Faults are those that drills may give the node; nil unless allow-drills is true.
	Faults *faults.Faults
	// Waiting answers gRPC calls while the role is not open yet.
	Waiting *Waiting

	// Dir is the locked data folder and Guard watches its disk; both are nil if the node
	// is diskless.
	Dir     *datadir.Dir
	Guard   *diskspace.Guard
	Engines *Engines

	// Certs are the node's certificates, for its ports and for connections to other nodes;
	// nil if tls-mode is off.
	Certs *certs.Store
	// Auth finds the identity of a call; nil without auth-file.
	Auth auth.Authenticator
	// Collectors are metrics of what New has opened.
	Collectors []prometheus.Collector

	identities *identify.File // what Auth is
	closers    []func() error
	reloaders  []func()
	beside     []func(context.Context) error
}

// New reads the certificates and the file of identities, and binds the addresses: whether
// they are free is known at once. After an error nothing is left open.
func New(ctx context.Context, cfg *config.Config, log *slog.Logger) (_ *Node, err error) {
	n := &Node{Config: cfg, Log: log, Layout: LayoutOf(cfg), Reads: state.NewReads()}
	defer func() {
		if err != nil {
			_ = n.Close() // err is the one to report
		}
	}()
	if err := n.openCerts(); err != nil {
		return nil, err
	}
	if err := n.openAuth(); err != nil {
		return nil, err
	}
	if cfg.Ops.AllowDrills {
		n.Faults = faults.New(log)
		n.Collectors = append(n.Collectors, n.Faults)
	}
	if n.GRPC, err = server.Listen(cfg.Network.ListenAddr); err != nil {
		return nil, err
	}
	n.GRPC = n.Faults.Listen(n.GRPC, false)
	n.OnClose(ignoreClosed(n.GRPC.Close))
	if n.HTTP, err = ops.Listen(ctx, cfg.Network.HTTPListenAddr, cfg.IsSet("http-listen-addr"), log); err != nil {
		return nil, err
	}
	n.HTTP = n.Faults.Listen(n.HTTP, false)
	n.OnClose(ignoreClosed(n.HTTP.Close))
	n.Waiting = &Waiting{node: n}
	address := cfg.Advertise(n.GRPC.Addr())
	n.Info = maintenance.NodeInfo{
		Name:        cfg.Node.Name,
		Version:     version.String(),
		Role:        string(cfg.Role),
		Engine:      string(cfg.Storage.Engine),
		DC:          cfg.Node.DCID,
		Database:    n.Layout.Database,
		Address:     address,
		HTTPAddress: reachable(n.HTTP.Addr(), address),
		Started:     time.Now(),
		SharesCache: cfg.Storage.Engine == config.RocksDB,
	}
	return n, nil
}

// OpenFolder locks the data folder, unless the node is diskless, and starts to watch its
// disk. Each engine that the node opens in it is wrapped by wrap, unless that is nil.
func (n *Node) OpenFolder(wrap func(storage.Engine) storage.Engine) error {
	return n.openFolder(wrap, datadir.Open)
}

// OpenFolderToRestore locks an empty data folder, in which a restore is to build a state. beside are
// folders in it that may hold something. It removes what a restore that was cut short has left.
func (n *Node) OpenFolderToRestore(beside ...string) error {
	return n.openFolder(nil, func(path string, id datadir.Identity) (*datadir.Dir, error) {
		return datadir.OpenToRestore(path, id, beside...)
	})
}

func (n *Node) openFolder(wrap func(storage.Engine) storage.Engine, open openDir) error {
	cfg := &n.Config.Storage
	var err error
	if n.Engines, err = newEngines(cfg, len(n.Layout.VBuckets), n.Log, wrap); err != nil {
		return err
	}
	n.OnClose(func() error { n.Engines.close(); return nil })
	if cfg.Diskless {
		return nil
	}
	return n.openDir(open)
}

// OnClose has f called by Close, before what was given to OnClose earlier.
func (n *Node) OnClose(f func() error) { n.closers = append(n.closers, f) }

// Close releases everything, newest first. It may be called again.
func (n *Node) Close() error {
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

// reachable is the address under which other hosts find a listener. If it listens on all
// addresses, that is its port at the host that is advertised.
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

// ignoreClosed makes closing a listener that its server has closed already no error.
func ignoreClosed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
