// Package standalone is the role of a node that is alone: its log is its own, and no
// other node keeps it.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/app/standbys"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster/bootstrap"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/standby/witness"
	"github.com/dkvdb/dkv/internal/storage"
)

// Standalone is the role. It has one vBucket, unless the node is a former master that a
// promotion has replaced, which serves nothing.
type Standalone struct {
	node *node.Node
	// replicas are in hash order.
	replicas []*local.Replica
	standbys *standbys.Standbys
}

var _ role.Role = (*Standalone)(nil)

// New makes the role of a node.
func New(n *node.Node) *Standalone {
	return &Standalone{node: n, standbys: standbys.New(n)}
}

// Name implements role.Role.
func (*Standalone) Name() string { return "standalone" }

// NewClock implements role.Role.
func (*Standalone) NewClock(o clock.Options) *clock.Clock { return clock.New(o) }

// NeedsOthers implements role.Role.
func (*Standalone) NeedsOthers() bool { return false }

// Open implements role.Role. It rejects the folder of a master, whose log other nodes
// keep as well.
func (s *Standalone) Open(ctx context.Context) error {
	n := s.node
	if n.Dir != nil && n.Yielded == "" {
		if member, err := bootstrap.HasIdentity(n.Dir.Path()); err != nil {
			return err
		} else if member {
			return fmt.Errorf("db-folder %s: it is a master's, whose log the other members keep too; start it with --role master, or choose another folder", n.Dir.Path())
		}
	}
	if err := s.standbys.Open(); err != nil {
		return err
	}
	var err error
	if s.replicas, err = node.OpenEach(ctx, n, s.openReplica); err != nil {
		return err
	}
	n.Info.ID, n.Info.Cluster = maintenance.StandaloneID, s.replicas[0].Cluster()
	return n.Claim()
}

func (s *Standalone) openReplica(i int, name string) (*local.Replica, error) {
	opts, err := s.node.StateOptions(name)
	if err != nil {
		return nil, err
	}
	opts.Gate = s.standbys.Gate(i)
	if dir := s.node.Lends[name]; dir != "" {
		own := opts.Open
		opts.Open = func(string) (storage.Engine, error) { return own(dir) }
	}
	r, err := local.Open(local.Options{Options: opts, BatchLimit: s.node.Engines.BatchLimit()})
	if err != nil {
		return nil, err
	}
	s.standbys.Bind(i, r)
	if s.node.Yielded != "" {
		r.Retire(errors.New(s.node.Yielded))
	}
	if by := s.node.Stopped; by != "" {
		r.Lend(func(ctx context.Context) bool { return peer.PromotionOf(ctx) == by })
	}
	return r, nil
}

// VBuckets implements role.Role.
func (s *Standalone) VBuckets() []role.VBucket {
	out := make([]role.VBucket, len(s.replicas))
	for i, name := range s.node.Layout.VBuckets {
		out[i] = role.VBucket{Name: name, Replica: s.replicas[i]}
	}
	return out
}

// Facts implements role.Role. A log of one is always led here.
func (s *Standalone) Facts(i int) condition.Facts {
	r := s.replicas[i]
	return condition.Facts{
		Cluster:  r.Cluster(),
		Mode:     replica.ModeLocal,
		State:    r.State(),
		Readable: r.Readable(),
		Leads:    r.Owner().Self,
		Age:      r.Age(),
	}
}

// Removal implements role.Role: there is no cluster to be removed from.
func (*Standalone) Removal() string { return "" }

// Cluster implements role.Role.
func (*Standalone) Cluster() role.Cluster { return role.NoCluster{} }

// RaftAddress implements role.Role.
func (*Standalone) RaftAddress() string { return "" }

// Pool is the connections to other members: a standalone node has none.
func (*Standalone) Pool() *peer.Pool { return nil }

// RegisterMembers registers what members ask each other, which is nothing here.
func (*Standalone) RegisterMembers(grpc.ServiceRegistrar) {}

// Router implements role.Role.
func (*Standalone) Router() *route.Router { return nil }

// Lead implements role.Role.
func (*Standalone) Lead() func(context.Context, string) error { return nil }

// Membership implements role.Role.
func (*Standalone) Membership(n *maintenance.Node) serverpb.DKVClusterServer { return n }

// Register implements role.Role.
func (s *Standalone) Register(r grpc.ServiceRegistrar, services *role.Services) {
	services.RegisterData(r)
	s.standbys.Show(services.Node)
}

// Run implements role.Role: it keeps the list of slaves, and which of them stands by.
func (s *Standalone) Run(ctx, _ context.Context, services *role.Services) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.standbys.Run(ctx) })
	services.Replication.KeepSlaves(ctx, s.node.Clock.Doubtful, s.node.Log)
	return nil
}

// Metrics implements role.Role.
func (s *Standalone) Metrics() metrics.Source { return s.standbys.Metrics(metrics.None{}) }

// Admin implements role.Role.
func (*Standalone) Admin() role.Admin { return role.Admin{} }

// Announced implements role.Role: a promoted slave is, which has been before, and a master
// that the registry may replace.
func (s *Standalone) Announced() bool {
	return s.node.Config.ConfiguredRole() == config.RoleSlave || s.node.Config.Replication.AutoPromoteAfter > 0
}

// Claim gives the record in the registry to this node; see standbys.Standbys.Claim.
func (s *Standalone) Claim(ctx context.Context) (string, error) { return s.standbys.Claim(ctx) }

// Record is the node's side of the record in the registry; nil if it needs none.
func (s *Standalone) Record() *witness.Keeper { return s.standbys.Record() }

// Hear implements role.Role.
func (*Standalone) Hear([]*serverpb.RegionInfo, bool) {}

// Standby serves the confirmations of slaves.
func (s *Standalone) Standby() role.Standby { return s.standbys.Service() }
