// Package slave is the role of a node that keeps copies of other nodes' vBuckets and
// serves reads of them.
package slave

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/slave"
	"github.com/dkvdb/dkv/internal/slave/report"
	"github.com/dkvdb/dkv/internal/slave/source"
	"github.com/dkvdb/dkv/internal/sleep"
)

// Slave is the role. Open makes everything but node.
type Slave struct {
	node   *node.Node
	pool   *peer.Pool
	router *route.Router
	// self is how this slave is known to its masters.
	self *serverpb.Replica
	// rows are the masters as the registry knows them; nothing looks at them if the
	// masters are configured.
	rows *source.Rows
	// statuses asks the masters about themselves.
	statuses slave.Statuses
	// turns are those of the copies that catch up.
	turns *slave.Turns
	// copies are in hash order.
	copies []*replicated
	// reporter tells the owners of the logs how far they are.
	reporter *report.Reporter
	// sealing is held by the call that seals or unseals the copies.
	sealing chan struct{}
	// needed are the nodes that release has kept connections to.
	needed []string
}

var _ role.Role = (*Slave)(nil)

// New makes the role of a node.
func New(n *node.Node) *Slave {
	return &Slave{node: n, rows: source.NewRows(n.Config.Node.Database), sealing: make(chan struct{}, 1), turns: slave.NewTurns(slave.AtOnce)}
}

// Name implements role.Role.
func (*Slave) Name() string { return "a slave" }

// NewClock implements role.Role. A slave goes by its master's clock.
func (*Slave) NewClock(o clock.Options) *clock.Clock { return slave.NewClock(o) }

// NeedsOthers implements role.Role: a slave serves what it has.
func (*Slave) NeedsOthers() bool { return false }

// streamWindows bounds, in bytes, what may be ahead of the readers of all vBuckets' streams.
const streamWindows = 64 << 20

// streamWindow is how far a stream of changes, or of a snapshot, may be ahead of its reader. They
// come from far away, too. But all vBuckets come over the same line, what is ahead takes memory,
// and a master takes a stream for stalled of which a quarter of the window is not read in time.
func streamWindow(vBuckets int) int32 {
	return int32(min(max(streamWindows/max(vBuckets, 1), 256<<10), peer.LargeWindow))
}

// Open implements role.Role.
func (s *Slave) Open(ctx context.Context) error {
	n := s.node
	calls, err := n.Calls()
	if err != nil {
		return err
	}
	calls.Window = streamWindow(n.Config.Node.VBuckets)
	calls.Count = true // what is on its way from a master
	s.pool = peer.NewPool(calls)
	n.OnClose(s.pool.Close)
	s.router = route.NewForCopies(s.pool, !s.rejectsLinearizable())
	if s.self, err = s.asReplica(); err != nil {
		return err
	}
	n.Info.ID = net.JoinHostPort(s.self.Hostname, strconv.Itoa(int(s.self.Port)))
	if n.Config.Replication.Prefer == config.PreferChain {
		s.rows = source.NewChainedRows(n.Config.Node.Database, n.Info.DC, n.Info.Address)
	}
	followers, err := node.OpenEach(ctx, n, s.openFollower)
	if err != nil {
		return err
	}
	sources := s.sources()
	for i, name := range n.Layout.VBuckets {
		s.copies = append(s.copies, &replicated{followers[i], s.newPuller(i, name, followers[i], sources), s.refused})
	}
	if s.reporter, err = s.newReporter(); err != nil {
		return err
	}
	return n.Claim()
}

func (s *Slave) rejectsLinearizable() bool {
	return s.node.Config.Replication.SlaveLinearizable == config.LinearizableReject
}

func (s *Slave) openFollower(_ int, name string) (*follower.Replica, error) {
	state, err := s.node.StateOptions(name)
	if err != nil {
		return nil, err
	}
	return follower.Open(follower.Options{
		Options:    state,
		BatchLimit: s.node.Engines.BatchLimit(),
		Reject:     s.rejectsLinearizable(),
	})
}

func (s *Slave) newPuller(i int, name string, state *follower.Replica, sources slave.Sources) *slave.Puller {
	cfg := &s.node.Config.Replication
	return slave.New(slave.Options{
		Database:     s.node.Layout.Database,
		VBucket:      name,
		VBuckets:     len(s.node.Layout.VBuckets),
		DC:           s.node.Info.DC,
		Self:         s.self,
		State:        state,
		Sources:      sources,
		Pool:         s.pool,
		Statuses:     &s.statuses,
		Turns:        s.turns,
		Mode:         slave.Mode(cfg.Mode),
		Compress:     slave.Compress(cfg.Compress),
		PollInterval: cfg.PollInterval,
		MaxActiveLag: uint64(cfg.MaxActiveLag),
		Clock:        s.node.Clock,
		Changed:      &s.node.Changed,
		Moved:        func() { s.reporter.Moved(i) },
		Log:          s.node.Log,
	})
}

// newReporter makes what tells the owners of the logs how far the copies are. A slave
// without a disk has another id after each start.
func (s *Slave) newReporter() (*report.Reporter, error) {
	n := s.node
	disk := kv.NewID()
	if n.Dir != nil {
		var err error
		if disk, err = n.Dir.DiskID(); err != nil {
			return nil, fmt.Errorf("the id of db-folder: %w", err)
		}
	}
	copies := make([]report.VBucket, len(s.copies))
	for i, c := range s.copies {
		copies[i] = c.puller
	}
	return report.New(report.Options{
		Disk: disk, Address: n.Info.Address, DC: n.Info.DC, Durable: n.Dir != nil, Unfit: n.Unfit, Pool: s.pool, Log: n.Log,
	}, copies...), nil
}

// refused returns why the owners of the logs hear nothing of this slave; nil if they do.
func (s *Slave) refused() error {
	if s.reporter == nil { // not open yet
		return nil
	}
	return s.reporter.Refused()
}

// sources are where this slave finds its masters: the configured ones, or those that the
// registry knows.
func (s *Slave) sources() slave.Sources {
	if fixed := s.node.Config.Replication.MasterAddrs; len(fixed) > 0 {
		return source.Fixed(fixed...)
	}
	return s.rows
}

// asReplica is how this slave is known to its masters.
func (s *Slave) asReplica() (*serverpb.Replica, error) {
	info := &s.node.Info
	host, port, err := net.SplitHostPort(info.Address)
	if err != nil {
		return nil, fmt.Errorf("advertise-addr: %w", err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("advertise-addr: port %q: %w", port, err)
	}
	return &serverpb.Replica{Zone: info.DC, Hostname: host, Port: uint32(number)}, nil
}

// VBuckets implements role.Role.
func (s *Slave) VBuckets() []role.VBucket {
	out := make([]role.VBucket, len(s.copies))
	for i, name := range s.node.Layout.VBuckets {
		out[i] = role.VBucket{Name: name, Replica: s.copies[i]}
	}
	return out
}

// Facts implements role.Role.
func (s *Slave) Facts(i int) condition.Facts {
	c := s.copies[i]
	f := condition.Facts{
		Cluster:  c.Cluster(),
		Mode:     replica.ModeStream,
		State:    c.State(),
		Readable: c.Readable(),
		Stale:    c.puller.Healthy(),
		Age:      c.Age(),
	}
	// Not while it tries one master after the other: each would be news for the registry.
	if p := c.puller.Status(); p.Phase == slave.Following {
		f.Master = p.Master
	}
	return f
}

// Removal implements role.Role: a slave is no member of a cluster.
func (*Slave) Removal() string { return "" }

// Cluster implements role.Role.
func (*Slave) Cluster() role.Cluster { return role.NoCluster{} }

// RaftAddress implements role.Role.
func (*Slave) RaftAddress() string { return "" }

// Router implements role.Role.
func (s *Slave) Router() *route.Router { return s.router }

// Lead implements role.Role: the copies reject a restore themselves.
func (*Slave) Lead() func(context.Context, string) error { return nil }

// Membership implements role.Role.
func (s *Slave) Membership(n *maintenance.Node) serverpb.DKVClusterServer {
	n.ShowWarning(s.refused)
	return n
}

// Register implements role.Role.
func (*Slave) Register(r grpc.ServiceRegistrar, s *role.Services) { s.RegisterData(r) }

// releaseEach is how often connections to nodes that are gone are closed.
const releaseEach = time.Minute

// release closes the connections to nodes that were no masters at the last look either: where
// addresses are new with each start, there would be more and more. A promotion that has sealed
// a copy may bring it changes from any node.
func (s *Slave) release() {
	var needed []string
	for _, c := range s.copies {
		if c.Sealed() != "" {
			return
		}
		needed = append(needed, c.puller.Addresses()...)
	}
	s.pool.Release(append(needed, s.needed...)...)
	s.needed = needed
}

// Run implements role.Role: it keeps this slave on its cluster's list of slaves, and tells
// the owners of the logs how far the copies are.
func (s *Slave) Run(ctx, _ context.Context, _ *role.Services) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.reporter.Run(ctx) })
	wg.Go(func() {
		for sleep.For(ctx, releaseEach) {
			s.release()
		}
	})
	s.enrol(ctx)
	return nil
}

// Announced implements role.Role.
func (*Slave) Announced() bool { return true }

// Master returns the address of the master that the copy of the first vBucket follows; empty for
// none.
func (s *Slave) Master() string { return s.copies[0].puller.Status().Master }

// Hear implements role.Role: the registry says which masters there are.
func (s *Slave) Hear(rows []*serverpb.RegionInfo, live bool) { s.rows.Set(rows, live) }

// Admin implements role.Role.
func (s *Slave) Admin() role.Admin {
	return role.Admin{Actions: map[string]role.Action{"/admin/resync": resync, "/admin/cancel-resync": cancelResync}}
}
