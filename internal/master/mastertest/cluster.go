package mastertest

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// Cluster is several nodes with real servers and connections. They share the state of each
// vBucket; only the ownership is simulated.
type Cluster struct {
	T      testing.TB
	States []*local.Replica // by vBucket
	Nodes  []*Member
	// Drain is how long requests under way may go on when a node is killed.
	Drain time.Duration
	// slept is how far its clocks are ahead of the real one, in seconds.
	slept atomic.Int64
}

// Sleep moves all clocks.
func (c *Cluster) Sleep(seconds int64) { c.slept.Add(seconds) }

// clock returns what the nodes take for the time.
func (c *Cluster) clock() *clock.Clock {
	begun := time.Now()
	slept := func() time.Duration { return time.Duration(c.slept.Load()) * time.Second }
	return clock.New(clock.Options{
		Wall:    func() time.Time { return time.Now().Add(slept()) },
		Elapsed: func() time.Duration { return time.Since(begun) + slept() },
	})
}

// Member is a node of a cluster, with clients of it.
type Member struct {
	serverpb.DKVClient
	Ops         serverpb.DKVNodeClient
	Replication serverpb.DKVReplicationClient
	Addr        string
	Replicas    []*OwnedReplica
	Router      *route.Router
	Pool        *peer.Pool
	Keyspace    *route.Keyspace
	Kill        func()
}

// NewCluster starts nodes, of which the first owns all vBuckets. services makes what a node
// serves, before its server starts.
func NewCluster(t testing.TB, nodes, vBuckets int, services func(*Member) func(grpc.ServiceRegistrar), changes ...func(*Cluster)) *Cluster {
	t.Helper()
	c := &Cluster{T: t}
	for _, change := range changes {
		change(c)
	}
	for range vBuckets {
		c.States = append(c.States, newState(t, c.clock()))
	}
	for i := range nodes {
		c.Nodes = append(c.Nodes, c.newNode(i, services))
	}
	return c
}

// LocalOptions are those of a replica in memory.
func LocalOptions() local.Options {
	return local.Options{Options: state.Options{
		Database: "db",
		VBucket:  "default",
		Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		Log:      slog.New(slog.DiscardHandler),
	}}
}

func newState(t testing.TB, clock *clock.Clock) *local.Replica {
	t.Helper()
	opts := LocalOptions()
	opts.Clock = clock
	local, err := local.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Run(t, local.Run)
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	return local
}

func (c *Cluster) newNode(i int, services func(*Member) func(grpc.ServiceRegistrar)) *Member {
	n := &Member{Pool: peer.NewPool(peer.Options{MaxMessageSize: 4 << 20, Share: true})}
	n.Router = route.New(n.Pool)
	var vBuckets []route.VBucket
	for j, state := range c.States {
		r := &OwnedReplica{Replica: state, cluster: c, node: i}
		n.Replicas = append(n.Replicas, r)
		vBuckets = append(vBuckets, route.VBucket{Name: fmt.Sprint("v", j), Replica: r})
	}
	n.Keyspace = route.NewKeyspace(vBuckets...)
	l := testkit.Listen(c.T)
	n.Addr = l.Addr().String()
	register := services(n)
	c.T.Cleanup(func() { n.Pool.Close() })
	n.Kill = servertest.Start(c.T, servertest.Options{Listener: l, Drain: c.Drain, Register: register}).Stop
	conn := servertest.Connect(c.T, n.Addr)
	n.DKVClient, n.Ops = serverpb.NewDKVClient(conn), serverpb.NewDKVNodeClient(conn)
	n.Replication = serverpb.NewDKVReplicationClient(conn)
	return n
}

// Own makes a node the owner of a vBucket, in the eyes of all nodes.
func (c *Cluster) Own(vBucket, node int) {
	for _, n := range c.Nodes {
		n.Replicas[vBucket].SetOwner(node)
	}
}

// VBucketOf names the vBucket of a key.
func (c *Cluster) VBucketOf(key string) string {
	var vs []route.VBucket
	for j := range c.States {
		vs = append(vs, route.VBucket{Name: fmt.Sprint("v", j)})
	}
	return route.NewKeyspace(vs...).Of([]byte(key)).Name
}
