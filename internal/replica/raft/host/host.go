// Package host is a process's part in Raft: the port, the storage of the logs and the
// workers, which all replicas of the process share. It opens Dragonboat sized to the
// machine, admits snapshots if there is room for them, and passes Dragonboat's events on to
// the replicas, which it knows as Groups.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/certs"
	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/periodic"
	"github.com/dkvdb/dkv/internal/replica/raft/transport"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
	"github.com/dkvdb/dkv/internal/timing"
)

// Options are what a Host is opened with.
type Options struct {
	// Dir holds the Raft log and received snapshots.
	Dir string
	// Address is the host:port at which the other members reach this one.
	Address string
	// Deployment separates clusters: only hosts with the same value talk to each other.
	Deployment uint64
	Timing     timing.Timing
	// Size is how much of the machine the log may use.
	Size Size
	// ConfirmReads has every linearizable read ask a majority, instead of being answered
	// under the lease.
	ConfirmReads bool
	// Guard watches the file system of Dir, if that is not the one of the states; nil if it
	// is.
	Guard *diskspace.Guard
	// Certs secure the connections between hosts; nil leaves them in the clear.
	Certs *certs.Store
	// Faults are those of drills; nil on a node that has not agreed to them.
	Faults *faults.Faults
	Log    *slog.Logger

	// Transport takes the place of the sockets of package transport; nil means those.
	Transport config.TransportFactory
}

// Host is the part of a process that its Raft replicas share: the port, the storage of the
// logs and the workers.
type Host struct {
	opts Options
	// lock keeps other processes away from the folder.
	lock *os.File
	// closing keeps the NodeHost open while a call into it is under way: its Close clears
	// what calls use.
	closing sync.RWMutex
	closed  bool
	nh      *dragonboat.NodeHost
	storage *logStorage
	// calls are the calls that may wait; Close waits for them.
	calls  sync.WaitGroup
	groups sync.Map // shard -> Group
	room   room
	// network begins elections; nil if the transport cannot.
	network campaigner
	ports   ports
	traffic transport.Traffic
	// rejected counts the connections of strangers to the port.
	rejected atomic.Uint64
}

// ErrClosed is the error of a call after Close.
var ErrClosed = errors.New("the node is shutting down")

// settingsFiles would silently change constants of Dragonboat, the layout of its log among
// them.
var settingsFiles = []string{"dragonboat-soft-settings.json", "dragonboat-hard-settings.json"}

// Open opens the storage of the logs and begins to listen.
func Open(opts Options) (_ *Host, err error) {
	for _, name := range settingsFiles {
		if _, err := os.Stat(name); err == nil {
			return nil, fmt.Errorf("%s in the working directory changes how the Raft log works; remove it or start elsewhere", name)
		}
	}
	if err := durable.MkdirAll(opts.Dir); err != nil {
		return nil, fmt.Errorf("raft log: %w; choose a folder that this user may write to", err)
	}
	lock, err := lockFolder(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close() // err is the one to report
		}
	}()
	layout, err := loadLayout(opts.Dir, opts.Size)
	if err != nil {
		return nil, err
	}
	logTo(opts.Log)
	machine, err := os.Hostname()
	if err == nil {
		err = settle(opts, machine)
	}
	if err != nil {
		return nil, err
	}
	h := &Host{opts: opts, lock: lock, storage: &logStorage{dir: opts.Dir, layout: layout, log: opts.Log, faults: opts.Faults}}
	c := h.config(layout)
	opts.Size.tell(opts.Log, &c.Expert)
	opts.Size.shortenQueues()
	opts.Size.shareStreams()
	switch h.nh, err = dragonboat.NewNodeHost(c); {
	case h.storage.failed != nil:
		return nil, h.storage.failed // which has nothing to do with the address
	case err != nil:
		return nil, startError(opts.Address, err)
	}
	if h.nh == nil { // a panic with a text, which it has logged, becomes no error
		return nil, fmt.Errorf("the Raft log in %s cannot be opened: the line before this one says why", opts.Dir)
	}
	periodic.Beat(opts.Timing.RTT) // Dragonboat has just begun to count its ticks
	return h, nil
}

// startError says what to do about an address that Raft cannot listen on.
func startError(address string, err error) error {
	remedy := ""
	var lookup *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "; the port is taken by another process, or is this node's own listen-addr: stop the one or choose another port in nexus-node-url, on all members"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "; it is no address of this machine: nexus-node-url names where this node itself listens"
	case errors.As(err, &lookup):
		remedy = fmt.Sprintf("; the host %q in nexus-node-url cannot be resolved here: correct it (getent hosts %[1]s), or write an address in numbers", lookup.Name)
	}
	return fmt.Errorf("raft on %s (nexus-node-url): %w%s", address, err, remedy)
}

func (h *Host) config(layout layout) config.NodeHostConfig {
	network := h.opts.Transport
	if network == nil {
		network = transport.New(h.transportOptions())
	}
	h.network, _ = network.(campaigner)
	c := config.NodeHostConfig{
		DeploymentID:        h.opts.Deployment,
		NodeHostDir:         h.opts.Dir,
		RTTMillisecond:      uint64(h.opts.Timing.RTT.Milliseconds()),
		RaftAddress:         h.opts.Address,
		RaftEventListener:   h,
		SystemEventListener: events{h},
		Expert: config.ExpertConfig{
			LogDB:            h.opts.Size.logDB(layout),
			Engine:           h.opts.Size.engine(layout),
			TransportFactory: network,
			LogDBFactory:     h.storage,
		},
	}
	return c
}

// campaigner is a transport that has a replica of this host begin an election at once.
type campaigner interface {
	Campaign(shard, replica, leader, term uint64)
	Listens(ctx context.Context, address string) bool
}

func (h *Host) transportOptions() transport.Options {
	return transport.Options{
		Ended:     h.ended,
		Snapshots: h,
		Size:      h.snapshotSize,
		Seen:      h.seen,
		Durable:   h.storage.durable,
		Rejected:  func() { h.rejected.Add(1) },
		Traffic:   &h.traffic,
		Certs:     h.opts.Certs,
		Faults:    h.opts.Faults,
		Log:       h.opts.Log,
	}
}

// Register makes a group known to the host, before the group takes part in its log.
func (h *Host) Register(shard uint64, g Group) { h.groups.Store(shard, g) }

// group returns the group of a shard, nil if there is none here.
func (h *Host) group(shard uint64) Group {
	g, _ := h.groups.Load(shard)
	group, _ := g.(Group)
	return group
}

// snapshotSize estimates the size of the snapshot that is about to be sent of a shard.
func (h *Host) snapshotSize(shard uint64) uint64 {
	if g := h.group(shard); g != nil {
		return g.SnapshotSize()
	}
	return 0
}

// seen is called with every message that is sent or received. A leader says with each how
// far the log is committed.
func (h *Host) seen(m *raftpb.Message) {
	if m.Type != raftpb.Replicate && m.Type != raftpb.Heartbeat {
		return
	}
	if g := h.group(m.ShardID); g != nil {
		g.Committed(m.Commit)
	}
}

// LeaseLength is how long this member's leases last; 0 if it takes none.
func (h *Host) LeaseLength() time.Duration {
	if h.opts.ConfirmReads {
		return 0
	}
	return h.opts.Timing.Lease
}

// Timing is what the host was opened with.
func (h *Host) Timing() timing.Timing { return h.opts.Timing }

// Guard watches the file system of the log, if that is not the one of the states; nil if
// it is.
func (h *Host) Guard() *diskspace.Guard { return h.opts.Guard }

// NodeHost returns Dragonboat's own. Unlike Use and Borrow it does not keep Close from
// closing it.
func (h *Host) NodeHost() (*dragonboat.NodeHost, error) {
	h.closing.RLock()
	defer h.closing.RUnlock()
	if h.closed {
		return nil, ErrClosed
	}
	return h.nh, nil
}

// Use calls f with the NodeHost, unless it is closed. f must not wait.
func (h *Host) Use(f func(nh *dragonboat.NodeHost) error) error {
	h.closing.RLock()
	defer h.closing.RUnlock()
	if h.closed {
		return ErrClosed
	}
	return f(h.nh)
}

// Borrow returns the NodeHost for a call that may wait a little, and a function to be
// called afterwards.
func (h *Host) Borrow() (nh *dragonboat.NodeHost, done func(), err error) {
	h.closing.RLock()
	defer h.closing.RUnlock()
	if h.closed {
		return nil, nil, ErrClosed
	}
	h.calls.Add(1)
	return h.nh, h.calls.Done, nil
}

// StopWaiting makes writes to the log fail that wait for room on its disk, which ends the
// process: the node is to stop.
func (h *Host) StopWaiting() { h.storage.stopWaiting() }

// Close stops what replicas still run and closes the log. It is idempotent.
func (h *Host) Close() error {
	h.StopWaiting() // what waits holds the lock
	h.closing.Lock()
	closed := h.closed
	h.closed = true
	h.closing.Unlock()
	if !closed {
		h.calls.Wait()
		h.nh.Close()
		return h.lock.Close()
	}
	return nil
}

// LeaderUpdated implements raftio.IRaftEventListener: a hint, since it may be out of date
// when it arrives.
func (h *Host) LeaderUpdated(info raftio.LeaderInfo) {
	if g := h.group(info.ShardID); g != nil {
		g.LeaderUpdated(info)
	}
}

// CheckAddress returns an error for a host:port that Raft cannot use.
func CheckAddress(address string) error {
	if config.IsValidAddress(address) {
		return nil
	}
	return fmt.Errorf("the Raft address %s is not one that the log's library takes: write an IPv4 address or a host name of letters, digits, hyphens and dots", address)
}

// HasLog reports whether dir holds a Raft log.
func HasLog(dir string) (bool, error) {
	files, _, err := Files(dir)
	return slices.ContainsFunc(files, func(name string) bool { return !isSynced(name) }), err
}
