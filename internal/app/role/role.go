// Package role says what a role of dkvsrv is to the rest of the program. The roles are in
// the packages below: standalone, member (a master), slave, and registry (a discovery
// node, which is one of the first two with other services). Package app chooses one and
// knows nothing but the interface.
package role

import (
	"context"
	"encoding/json"
	"net/http"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/metrics"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/cluster"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
)

// Role is what a node is for. NewClock, NeedsOthers and Open are called in this order,
// each once; everything else is called once Open has returned without an error.
type Role interface {
	// Name is what the node is called in a sentence, such as "a master".
	Name() string
	// NewClock makes what the node takes for the time.
	NewClock(clock.Options) *clock.Clock
	// NeedsOthers reports whether Open may wait for other nodes to be up. Then the node
	// answers over HTTP meanwhile.
	NeedsOthers() bool
	// Open finds out which node of which cluster this is and opens its replicas, which
	// the node closes.
	Open(ctx context.Context) error

	// VBuckets are the replicas, in hash order.
	VBuckets() []VBucket
	// Facts are what the readiness of a vBucket is judged by, by its position.
	Facts(i int) condition.Facts
	// Removal is what there is to say of a node that was removed from its cluster.
	Removal() string
	// Cluster is the members that keep the log together.
	Cluster() Cluster
	// RaftAddress is where the node listens for Raft; empty for nowhere.
	RaftAddress() string

	// Router forwards requests to other nodes; nil if all are answered here.
	Router() *route.Router
	// Lead makes this node the owner of a vBucket's log, which restoring it requires;
	// nil if it always is.
	Lead() func(ctx context.Context, vBucket string) error
	// Membership serves changes of the cluster, or says why there is none to change.
	Membership(*maintenance.Node) serverpb.DKVClusterServer
	// Register registers the gRPC services that differ between roles.
	Register(grpc.ServiceRegistrar, *Services)
	// Run does what the role does besides running its replicas and its cluster, until
	// ctx ends. The replicas run a while longer, until below ends.
	Run(ctx, below context.Context, s *Services) error

	// Metrics are the role's own.
	Metrics() metrics.Source
	// Admin is what only this role answers over HTTP. It is called before Open, and what
	// it returns is used after Open.
	Admin() Admin
	// Announced reports whether the registry is told of this node.
	Announced() bool
	// Hear is told what the registry says of the other nodes of the database. live is
	// false while the registry cannot be reached.
	Hear(rows []*serverpb.RegionInfo, live bool)
}

// VBucket is a part of the keyspace with its replica on this node.
type VBucket struct {
	Name string
	Replica
}

// Replica is a replica as the process runs it.
type Replica interface {
	replica.Replica
	Run(ctx context.Context) error
	Close() error
	// Served is closed when the first request can be served.
	Served() <-chan struct{}
}

// Admin is what a role answers over HTTP itself. What is here replaces what every role has
// at the same path.
type Admin struct {
	Views   map[string]ops.View
	Actions map[string]Action
	// Handlers are called from the start on, also before the role is open.
	Handlers map[string]http.Handler
}

// Action does an administrative call with the node's services; see ops.Action.
type Action func(ctx context.Context, s *Services, body json.RawMessage) (any, error)

// Cluster is the members that keep a node's log together; a cluster.Cluster is one.
type Cluster interface {
	// Confirm returns once the members have confirmed that this node is the one that it
	// takes itself for, while they can ask it the same.
	Confirm(ctx context.Context) error
	// Run looks after the cluster until ctx ends.
	Run(ctx context.Context) error
	// Peers are the other members, Missing those of them that do not answer.
	Peers() []cluster.Peer
	Missing() []cluster.Peer
	// Seen are Peers, and false before this node has asked them for the first time.
	Seen() ([]cluster.Peer, bool)
	Clocks() []cluster.MemberClock
	// TimingFault is what is wrong with the timing of the log; empty for nothing.
	TimingFault() string
	// URLs are the Raft addresses of all members, Addresses everything under which they
	// are reached, host:port.
	URLs() []string
	Addresses() []string
}

// NoCluster is the Cluster of a node whose log no other node keeps.
type NoCluster struct{}

// Confirm implements Cluster.
func (NoCluster) Confirm(context.Context) error { return nil }

// Run implements Cluster.
func (NoCluster) Run(context.Context) error { return nil }

// Peers implements Cluster.
func (NoCluster) Peers() []cluster.Peer { return nil }

// Missing implements Cluster.
func (NoCluster) Missing() []cluster.Peer { return nil }

// Seen implements Cluster.
func (NoCluster) Seen() ([]cluster.Peer, bool) { return nil, true }

// Clocks implements Cluster.
func (NoCluster) Clocks() []cluster.MemberClock { return nil }

// TimingFault implements Cluster.
func (NoCluster) TimingFault() string { return "" }

// URLs implements Cluster.
func (NoCluster) URLs() []string { return nil }

// Addresses implements Cluster.
func (NoCluster) Addresses() []string { return nil }
