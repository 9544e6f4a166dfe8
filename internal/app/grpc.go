package app

import (
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/access"
	"github.com/dkvdb/dkv/internal/app/drills"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/app/rows"
	"github.com/dkvdb/dkv/internal/server"
	"github.com/dkvdb/dkv/internal/standby/promotion"
)

// turnover is how long requests under way may take when a promotion changes what the node is.
// Those that a slave has forwarded to a lost master would hold up the new one, and a former
// master acknowledges nothing any more.
const turnover = 500 * time.Millisecond

// drainFor returns how long requests under way may take at most when the node stops.
func (a *app) drainFor(cause error) time.Duration {
	if promotion.Becomes(cause) {
		return turnover
	}
	return a.node.Config.Ops.DrainTimeout
}

// drills is the service of the node, with what drills need.
func (a *app) drills() *drills.Service {
	s := &drills.Service{
		DKVNodeServer: a.succession.Node(a.services.Node),
		Name:          "this node (" + a.node.Config.Node.Name + ")",
		Faults:        a.node.Faults,
		Others:        a.role.Cluster().Seen,
		Raft:          a.node.Config.InRaft(),
	}
	if slave, is := a.role.(interface{ Master() string }); is {
		s.Master = slave.Master
	}
	return s
}

// newGRPC makes the gRPC server around the services of the role. Every node has a
// status, a membership, even if it is to say that there is none, and its row.
func (a *app) newGRPC(source *rows.Source) *server.Server {
	limits := a.node.Config.Limits
	return server.New(server.Options{
		Listener: a.node.GRPC,
		TLS:      a.node.GRPCAcceptor(),
		Register: func(r grpc.ServiceRegistrar) {
			serverpb.RegisterDKVClusterServer(r, a.services.Membership)
			serverpb.RegisterDKVDiscoveryNodeServer(r, rows.Service{Source: source})
			serverpb.RegisterDKVNodeServer(r, a.drills())
			peerpb.RegisterStandbyServer(r, a.succession)
			a.role.Register(r, a.services)
		},
		MaxConnections:        limits.Connections,
		MaxConnectionsPerHost: limits.ConnectionsPerHost,
		MaxMessageSize:        int(limits.MessageSize),
		MaxInFlight:           limits.RequestsInFlight,
		MaxStreams:            limits.Streams,
		MaxMemory:             int64(limits.MemoryInFlight),
		Memory:                a.services.Memory,
		StallTimeout:          limits.StreamStall,
		SlowThreshold:         a.node.Config.Log.SlowThreshold,
		Audited:               access.Audited,
		Access:                a.guard,
		Reflection:            a.node.Config.Network.Reflection,
		NotHere:               func(service string) string { return role.Elsewhere(a.role.Name(), service) },
		DrainTimeout:          a.node.Config.Ops.DrainTimeout,
		DrainFor:              a.drainFor,
		Metrics:               a.metrics,
		Log:                   a.node.Log,
		Audit:                 a.audit,
		Tracer:                a.tracer,
		AccessLog:             a.requests,
		Describe:              a.services.Describe,
	})
}
