// Package member is the role of a node that keeps its logs together with other nodes, by
// Raft: a master. A discovery node that has others is a member with other services.
package member

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/app/standbys"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/standby/witness"
	"github.com/dkvdb/dkv/internal/storage/diskspace"
)

// Member is the role. Open makes everything but node.
type Member struct {
	node     *node.Node
	identity *bootstrap.Identity
	host     *host.Host
	// logGuard watches the disk of the Raft log; nil if that is the one of the states.
	logGuard *diskspace.Guard
	// rafts are the replicas, in hash order.
	rafts    []*raft.Replica
	standbys *standbys.Standbys
	pool     *peer.Pool
	router   *route.Router
	cluster  *cluster.Cluster
}

var _ role.Role = (*Member)(nil)

// New makes the role of a node.
func New(n *node.Node) *Member { return &Member{node: n, standbys: standbys.New(n)} }

// Name implements role.Role.
func (*Member) Name() string { return "a master" }

// NewClock implements role.Role. A member goes by what a majority of the members' clocks
// say.
func (*Member) NewClock(o clock.Options) *clock.Clock {
	o.Member = true
	return clock.New(o)
}

// NeedsOthers implements role.Role.
func (*Member) NeedsOthers() bool { return true }

// VBuckets implements role.Role.
func (m *Member) VBuckets() []role.VBucket {
	out := make([]role.VBucket, len(m.rafts))
	for i, name := range m.node.Layout.VBuckets {
		out[i] = role.VBucket{Name: name, Replica: m.rafts[i]}
	}
	return out
}

// Facts implements role.Role.
func (m *Member) Facts(i int) condition.Facts {
	r := m.rafts[i]
	return condition.Facts{
		Cluster:  r.Cluster(),
		Mode:     replica.ModeRaft,
		State:    r.State(),
		Readable: r.Readable(),
		Leads:    r.Owner().Self && ownsEpoch(r),
		Age:      r.Age(),
	}
}

// ownsEpoch reports whether a leader has an epoch to serve in. Until then it waits for the
// lease of the leader before it to run out.
func ownsEpoch(r *raft.Replica) bool {
	stats := r.Stats()
	return stats.Epoch != 0 && stats.Term == r.Term()
}

// Cluster implements role.Role.
func (m *Member) Cluster() role.Cluster {
	return guarded{m.cluster, m.logGuard, m.node.LogRoom(m.logGuard)}
}

// guarded is a cluster whose disk for the log is watched while it runs.
type guarded struct {
	*cluster.Cluster
	guard   *diskspace.Guard
	changed func(low bool)
}

// Run implements role.Cluster.
func (g guarded) Run(ctx context.Context) error {
	if g.guard == nil {
		return g.Cluster.Run(ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.Cluster.Run(ctx) })
	group.Go(func() error { g.guard.Run(ctx, g.changed); return nil })
	return group.Wait()
}

// RaftAddress implements role.Role.
func (m *Member) RaftAddress() string { return m.identity.Address() }

// Pool is the connections to the other members.
func (m *Member) Pool() *peer.Pool { return m.pool }

// Router implements role.Role.
func (m *Member) Router() *route.Router { return m.router }

// Lead implements role.Role.
func (m *Member) Lead() func(context.Context, string) error { return m.cluster.Lead }

// Membership implements role.Role.
func (m *Member) Membership(*maintenance.Node) serverpb.DKVClusterServer { return m.cluster }

// Register implements role.Role.
func (m *Member) Register(r grpc.ServiceRegistrar, s *role.Services) {
	m.RegisterMembers(r)
	s.RegisterData(r)
	m.standbys.Show(s.Node)
}

// RegisterMembers registers what members ask each other.
func (m *Member) RegisterMembers(r grpc.ServiceRegistrar) {
	peerpb.RegisterMembersServer(r, m.cluster)
}

// Run implements role.Role: it keeps the list of slaves, and which of them stands by.
func (m *Member) Run(ctx, _ context.Context, s *role.Services) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.standbys.Run(ctx) })
	s.Replication.KeepSlaves(ctx, m.node.Clock.Doubtful, m.node.Log)
	return nil
}

// Announced implements role.Role.
func (*Member) Announced() bool { return true }

// Hear implements role.Role: a master needs none of it.
func (*Member) Hear([]*serverpb.RegionInfo, bool) {}

// Claim gives the record in the registry to these masters; see standbys.Standbys.Claim.
func (m *Member) Claim(ctx context.Context) (string, error) { return m.standbys.Claim(ctx) }

// Record is the node's side of the record in the registry; nil if it needs none.
func (m *Member) Record() *witness.Keeper { return m.standbys.Record() }

// Standby serves the confirmations of slaves.
func (m *Member) Standby() role.Standby { return m.standbys.Service() }
