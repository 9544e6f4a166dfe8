package mastertest

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// NoOne is the owner of a vBucket that has none.
const NoOne = -1

// Cluster is a cluster as its nodes see it: real servers and connections over
// vBuckets whose state all nodes share, so that only who owns what is played.
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

// OwnedReplica is a replica which knows an owner, and serves only where that is
// its own node.
type OwnedReplica struct {
	*local.Replica
	cluster *Cluster
	node    int
	owner   atomic.Int64
	// OnOwner, if there is one, runs at each look for the owner, OnServe before
	// anything that only the owner does.
	OnOwner atomic.Pointer[func()]
	OnServe atomic.Pointer[func(context.Context) error]
}

// SetOwner lets only this replica know that a node owns its vBucket, or NoOne.
func (r *OwnedReplica) SetOwner(node int) { r.owner.Store(int64(node)) }

func (r *OwnedReplica) Owner() replica.Owner {
	if f := r.OnOwner.Load(); f != nil {
		(*f)()
	}
	switch owner := int(r.owner.Load()); owner {
	case NoOne:
		return replica.Owner{}
	case r.node:
		return replica.Owner{Self: true, ID: uint64(owner + 1)}
	default:
		return replica.Owner{ID: uint64(owner + 1), Address: r.cluster.Nodes[owner].Addr}
	}
}

func (r *OwnedReplica) serve(ctx context.Context) error {
	if int(r.owner.Load()) != r.node {
		return kv.Errorf(kv.NotOwner, "node %d is not the owner", r.node)
	}
	if f := r.OnServe.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (r *OwnedReplica) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := r.serve(ctx); err != nil {
		return command.Result{}, err
	}
	return r.Replica.Propose(ctx, c)
}

func (r *OwnedReplica) level(ctx context.Context, opts kv.ReadOptions) error {
	if opts.Level != kv.Linearizable {
		return nil
	}
	return r.serve(ctx)
}

func (r *OwnedReplica) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return kv.Pair{}, false, kv.ReadInfo{}, err
	}
	return r.Replica.Get(ctx, key, opts)
}

func (r *OwnedReplica) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Replica.MultiGet(ctx, keys, opts)
}

func (r *OwnedReplica) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Replica.View(ctx, opts)
}

// Hook sets one of a replica's functions.
func Hook[F any](at *atomic.Pointer[F], f F) { at.Store(&f) }

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
	n := &Member{Pool: peer.NewPool(peer.Options{MaxMessageSize: 4 << 20})}
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

// Own lets all nodes know that one owns a vBucket.
func (c *Cluster) Own(vBucket, node int) {
	for _, n := range c.Nodes {
		n.Replicas[vBucket].SetOwner(node)
	}
}

// Patience is a deadline that is not expected to be met.
const Patience = testkit.Patience

// Reason is what an error says to programs.
func Reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "dkv" {
			return info.GetReason()
		}
	}
	return ""
}

func PutOf(key, value string) *serverpb.PutRequest {
	return &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func Linearizable(key string) *serverpb.GetRequest {
	return &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
}

func MustPut(t testing.TB, n serverpb.DKVClient, key, value string) *serverpb.PutResponse {
	t.Helper()
	resp, err := n.Put(testkit.Within(t, Patience), PutOf(key, value))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func MustGet(t testing.TB, n serverpb.DKVClient, key, want string) {
	t.Helper()
	resp, err := n.Get(testkit.Within(t, Patience), Linearizable(key))
	if err != nil || string(resp.GetValue()) != want {
		t.Errorf("%s: %q, %v; want %q", key, resp.GetValue(), err, want)
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

// Keys returns n keys.
func Keys(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "key-%05d", i)
	}
	return out
}

// Timely makes a check of times again where it fails: a machine that stalls for
// tens of milliseconds says nothing about the code.
func Timely(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for range 6 {
		if err = check(); err == nil {
			return
		}
	}
	t.Error(err)
}
