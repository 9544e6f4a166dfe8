package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/timing"
	"github.com/dkvdb/dkv/internal/version"
)

const (
	// snapshotRate bounds what one snapshot is sent with, in bytes a second:
	// clients share the network with it.
	snapshotRate = 64 << 20
	// freshEach spreads what followers ask their leaders, by the number of
	// vBuckets.
	freshEach = 20 * time.Millisecond
)

// openMember finds out which member of which cluster this node is, which may take
// until others are up, and opens its replicas.
func (n *node) openMember(ctx context.Context) error {
	url, err := n.nodeURL()
	if err != nil {
		return err
	}
	if err := n.checkURLs(url); err != nil {
		return err
	}
	n.identity, err = bootstrap.Enter(ctx, n.bootstrapOptions(url))
	if err = errors.Join(err, n.waited()); err != nil {
		return err
	}
	n.info.Timing = n.timing().Text()
	n.info.ID, n.info.Cluster = strconv.FormatUint(n.identity.Replica, 10), fmt.Sprintf("%016x", n.identity.Deployment)
	if n.identity.Fresh && n.dir.Claimed() && len(n.identity.Members) == 1 {
		if err := n.continueInRaft(); err != nil {
			return err
		}
	}
	if err := n.guardLog(); err != nil {
		return err
	}
	n.host, err = replica.OpenHost(replica.HostOptions{
		Dir:          n.cfg.Nexus.LogDir,
		Address:      n.identity.Address(),
		Deployment:   n.identity.Deployment,
		Timing:       n.timing(),
		Size:         n.hostSize(),
		ConfirmReads: !n.cfg.Nexus.LeaseBasedReads,
		Guard:        n.logGuard,
		Log:          n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(n.host.Close)
	if err := n.identity.MarkStarted(); err != nil {
		return err
	}
	rafts, err := n.openRafts(ctx)
	if err != nil {
		return err
	}
	n.pool = peer.NewPool(peer.Options{MaxMessageSize: int(n.cfg.Limits.MessageSize)})
	n.onClose(n.pool.Close)
	n.router = route.New(n.pool)
	n.cluster, err = cluster.New(cluster.Options{
		Identity: n.identity,
		Logs:     rafts,
		Pool:     n.pool,
		Terms:    n.terms(),
		Clock:    n.clock,
		Log:      n.log,
	})
	if err != nil {
		return err
	}
	return n.dir.Claim()
}

// checkURLs refuses what could be entered as a member and not be used then.
func (n *node) checkURLs(own string) error {
	for _, url := range append([]string{own}, n.cfg.Nexus.ClusterURLs...) {
		address, err := bootstrap.ParseURL(url)
		if err != nil {
			continue // empty, or Enter says what is wrong
		}
		if err := replica.CheckAddress(address); err != nil {
			return err
		}
	}
	return nil
}

// guardLog watches the disk of the Raft log, where that is another one.
func (n *node) guardLog() error {
	dir := n.cfg.Nexus.LogDir
	if err := datadir.MkdirAll(dir); err != nil {
		return fmt.Errorf("nexus-log-dir: %w; choose a folder that this user may write to", err)
	}
	if n.guard.Covers(dir) {
		return nil
	}
	var err error
	n.logGuard, err = n.newGuard(dir)
	return err
}

// openRafts opens the replicas of all vBuckets. None takes part in its log yet.
func (n *node) openRafts(ctx context.Context) ([]cluster.Log, error) {
	opened, err := openEach(ctx, n, n.openRaft)
	if err != nil {
		return nil, err
	}
	logs := make([]cluster.Log, len(opened))
	for i, name := range vBucketNames(n.cfg) {
		n.vBuckets = append(n.vBuckets, vBucket{name, opened[i]})
		logs[i] = cluster.Log{VBucket: name, Raft: opened[i]}
	}
	return logs, nil
}

func (n *node) openRaft(i int, name string) (*replica.Raft, error) {
	state, err := n.stateOptions(name)
	if err != nil {
		return nil, err
	}
	return n.host.OpenRaft(replica.RaftOptions{
		StateOptions:  state,
		Shard:         uint64(i) + 1,
		Replica:       n.identity.Replica,
		Members:       n.identity.InitialMembers(),
		NonVoting:     n.identity.NonVoting,
		Self:          n.self(),
		TakePart:      func() { n.cluster.TakePart(context.Background()) },
		Recorded:      n.recorded,
		WhenRemoved:   n.noteRemoval,
		Agreed:        n.identity.LogFormat,
		Timeout:       n.cfg.Nexus.ReplTimeout,
		SnapshotEvery: uint64(n.cfg.Nexus.SnapshotCount),
		Keep:          uint64(n.cfg.Nexus.SnapshotCatchupEntries),
		MaxInMemory:   n.hostSize().MaxInMemory(),
		SnapshotRate:  snapshotRate,
		KeepsTiming:   i == 0,
		FreshEvery:    time.Duration(len(vBucketNames(n.cfg))) * freshEach,
	})
}

// hostSize is what the Raft log may make use of.
func (n *node) hostSize() replica.HostSize {
	return replica.HostSize{
		Cores:    runtime.GOMAXPROCS(0),
		Memory:   uint64(config.ThisHost().Memory()),
		VBuckets: len(vBucketNames(n.cfg)),
	}
}

// self is how the others reach this node.
func (n *node) self() replica.Member {
	start := n.identity.Past().Last()
	return replica.Member{
		Name:        n.info.Name,
		Address:     n.info.Address,
		HTTPAddress: n.info.HTTPAddress,
		RaftAddress: n.identity.Address(),
		DC:          n.info.DC,
		UUID:        n.identity.UUID,
		Starts:      start.Number,
		Start:       start.ID,
		LogFormat:   command.NewestFormat,
	}
}

// recorded judges the record that a log has of this node, by the starts of its disk.
func (n *node) recorded(m replica.Member) error {
	start := bootstrap.Start{UUID: m.UUID, Number: m.Starts, ID: m.Start}
	if m.Starts == 0 || n.identity.Past().Holds(start) {
		return nil
	}
	return n.identity.OlderCopy(start, "the log")
}

// terms are what all members must have in common.
func (n *node) terms() bootstrap.Terms {
	return bootstrap.Terms{
		ClusterName: n.cfg.Nexus.ClusterName,
		Database:    n.database(),
		VBuckets:    len(vBucketNames(n.cfg)),
		Version:     version.String(),
		Format:      command.NewestFormat,
		Timing:      timing.Setting{Current: n.timing()},
	}
}

// timing is what the node is configured with.
func (n *node) timing() timing.Timing {
	raft := &n.cfg.Raft
	return timing.Timing{
		RTT: raft.RTT, Election: uint64(raft.ElectionRTT), Heartbeat: uint64(raft.HeartbeatRTT), Lease: raft.LeaseDuration,
	}
}

func (n *node) bootstrapOptions(url string) bootstrap.Options {
	nexus := &n.cfg.Nexus
	return bootstrap.Options{
		Dir:        n.dir.Path(),
		Folders:    n.memberFolders(),
		URL:        url,
		Address:    n.info.Address,
		Peers:      nexus.ClusterURLs,
		Join:       nexus.Join,
		Terms:      n.terms(),
		Host:       bootstrap.Host{Addrs: ownAddrs(), Lookup: lookup},
		RaftData:   func() (bool, error) { return replica.HasLog(nexus.LogDir) },
		StateThere: n.dir.Claimed(),
		Waits:      n.waits,
		Log:        n.log,
	}
}

// nodeURL is the node's Raft address; empty where it is to be found in the list.
// A master that has neither is alone until others are added to it: it keeps the
// address that it found free when it began, beside its gRPC address.
func (n *node) nodeURL() (string, error) {
	nexus := &n.cfg.Nexus
	if nexus.NodeURL != "" || len(nexus.ClusterURLs) > 0 || nexus.Join {
		return nexus.NodeURL, nil
	}
	if url, err := bootstrap.StoredURL(n.dir.Path()); err != nil || url != "" {
		return url, err
	}
	host, _, err := net.SplitHostPort(n.info.Address)
	if err != nil {
		return "", err
	}
	l, err := listenRaft(host)
	if err != nil {
		return "", fmt.Errorf("%w; set --nexus-node-url to an address of this host that the other masters reach", err)
	}
	address := l.Addr().String()
	if _, port, _ := net.SplitHostPort(address); port != strconv.Itoa(defaultRaftPort) {
		n.log.Warn("the default Raft port is taken; this master keeps another one (--nexus-node-url sets it)", "taken", defaultRaftPort, "raft", address)
	}
	return bootstrap.FormatURL(address), l.Close()
}

const (
	// defaultRaftPort is where a master listens that was told nothing about Raft.
	defaultRaftPort = 9020
	// otherRaftPorts are tried after it. A master keeps its port for good, so it must
	// not be one that the system gives to whatever connects while the master is down.
	otherRaftPorts, lastRaftPort = 9120, 9219
)

// listenRaft listens on the first port of a host that is free for Raft.
func listenRaft(host string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(defaultRaftPort)))
	for port := otherRaftPorts; port <= lastRaftPort && errors.Is(err, syscall.EADDRINUSE); port++ {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return l, err
}

func ownAddrs() []netip.Addr {
	var out []netip.Addr
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // loopback is known without
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr())
		}
	}
	return out
}

const lookupTimeout = 2 * time.Second

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// continueInRaft makes the state that a standalone node has left the start of a
// Raft log. It may be done again as long as the log has not begun.
func (n *node) continueInRaft() error {
	for _, name := range vBucketNames(n.cfg) {
		generations, err := n.dir.VBucket(name)
		if err != nil {
			return err
		}
		engine, err := n.engines.open(generations.Current())
		if err != nil {
			return fmt.Errorf("open storage: %w%s", err, advice(err))
		}
		if err := errors.Join(fsm.Continue(engine), engine.Close()); err != nil {
			return fmt.Errorf("vBucket %s: %w", name, err)
		}
	}
	n.log.Info("the state that a standalone node has left goes on in a Raft log; add members with dkvctl -addNode")
	return nil
}
