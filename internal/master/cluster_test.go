package master

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
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

// nobody is the owner of a vBucket that has none.
const nobody = -1

// trial is a cluster as its nodes see it: real servers and connections over
// vBuckets whose state all nodes share, so that only who owns what is played.
type trial struct {
	t      testing.TB
	states []*replica.Local // by vBucket
	nodes  []*trialNode
	// drain is how long requests under way may go on when a node is killed.
	drain time.Duration
	// slept is how far its clocks are ahead of the real one, in seconds.
	slept atomic.Int64
}

// sleep moves all clocks.
func (c *trial) sleep(seconds int64) { c.slept.Add(seconds) }

// clock returns what the nodes take for the time.
func (c *trial) clock() *clock.Clock {
	begun := time.Now()
	slept := func() time.Duration { return time.Duration(c.slept.Load()) * time.Second }
	return clock.New(clock.Options{
		Wall:    func() time.Time { return time.Now().Add(slept()) },
		Elapsed: func() time.Duration { return time.Since(begun) + slept() },
	})
}

// trialNode is a node of a trial with a client of it.
type trialNode struct {
	serverpb.DKVClient
	ops         serverpb.DKVNodeClient
	replication serverpb.DKVReplicationClient
	service     *Replication // behind replication
	addr        string
	replicas    []*ownedReplica
	router      *Router
	pool        *peer.Pool
	kill        func()
}

// ownedReplica is a replica which knows an owner, and serves only where that is
// its own node.
type ownedReplica struct {
	*replica.Local
	trial *trial
	node  int
	owner atomic.Int64
	// onOwner, if there is one, runs at each look for the owner, onServe before
	// anything that only the owner does.
	onOwner atomic.Pointer[func()]
	onServe atomic.Pointer[func(context.Context) error]
}

func (r *ownedReplica) Owner() replica.Owner {
	if f := r.onOwner.Load(); f != nil {
		(*f)()
	}
	switch owner := int(r.owner.Load()); owner {
	case nobody:
		return replica.Owner{}
	case r.node:
		return replica.Owner{Self: true, ID: uint64(owner + 1)}
	default:
		return replica.Owner{ID: uint64(owner + 1), Address: r.trial.nodes[owner].addr}
	}
}

func (r *ownedReplica) serve(ctx context.Context) error {
	if int(r.owner.Load()) != r.node {
		return kv.Errorf(kv.NotOwner, "node %d is not the owner", r.node)
	}
	if f := r.onServe.Load(); f != nil {
		return (*f)(ctx)
	}
	return nil
}

func (r *ownedReplica) Propose(ctx context.Context, c *command.Command) (command.Result, error) {
	if err := r.serve(ctx); err != nil {
		return command.Result{}, err
	}
	return r.Local.Propose(ctx, c)
}

func (r *ownedReplica) level(ctx context.Context, opts kv.ReadOptions) error {
	if opts.Level != kv.Linearizable {
		return nil
	}
	return r.serve(ctx)
}

func (r *ownedReplica) Get(ctx context.Context, key []byte, opts kv.ReadOptions) (kv.Pair, bool, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return kv.Pair{}, false, kv.ReadInfo{}, err
	}
	return r.Local.Get(ctx, key, opts)
}

func (r *ownedReplica) MultiGet(ctx context.Context, keys [][]byte, opts kv.ReadOptions) ([]kv.Pair, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Local.MultiGet(ctx, keys, opts)
}

func (r *ownedReplica) View(ctx context.Context, opts kv.ReadOptions) (replica.View, kv.ReadInfo, error) {
	if err := r.level(ctx, opts); err != nil {
		return nil, kv.ReadInfo{}, err
	}
	return r.Local.View(ctx, opts)
}

// hook sets one of a replica's functions.
func hook[F any](at *atomic.Pointer[F], f F) { at.Store(&f) }

var trialLimits = Limits{Key: 64, Value: 1 << 20, Batch: 1 << 20, Response: 2 << 20}

// newTrial starts nodes, of which the first owns all vBuckets.
func newTrial(t testing.TB, nodes, vBuckets int, changes ...func(*trial)) *trial {
	t.Helper()
	c := &trial{t: t}
	for _, change := range changes {
		change(c)
	}
	for range vBuckets {
		c.states = append(c.states, newState(t, c.clock()))
	}
	for i := range nodes {
		c.nodes = append(c.nodes, c.newNode(i))
	}
	return c
}

// localOptions are those of a replica in memory.
func localOptions() replica.LocalOptions {
	return replica.LocalOptions{StateOptions: replica.StateOptions{
		Database: "db",
		VBucket:  "default",
		Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		Log:      slog.New(slog.DiscardHandler),
	}}
}

func newState(t testing.TB, clock *clock.Clock) *replica.Local {
	t.Helper()
	opts := localOptions()
	opts.Clock = clock
	local, err := replica.OpenLocal(opts)
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

func (c *trial) newNode(i int) *trialNode {
	n := &trialNode{pool: peer.NewPool(peer.Options{MaxMessageSize: 4 << 20})}
	n.router = NewRouter(n.pool)
	var vBuckets []VBucket
	for j, state := range c.states {
		r := &ownedReplica{Local: state, trial: c, node: i}
		n.replicas = append(n.replicas, r)
		vBuckets = append(vBuckets, VBucket{Name: fmt.Sprint("v", j), Replica: r})
	}
	keyspace := NewKeyspace(vBuckets...)
	l := testkit.Listen(c.t)
	n.addr = l.Addr().String()
	node := NewNode(keyspace, NodeInfo{Address: n.addr}, n.router)
	n.service = NewReplication(keyspace, n.router)
	c.t.Cleanup(func() {
		n.pool.Close()
		n.service.Close()
	})
	n.kill = servertest.Start(c.t, servertest.Options{
		Listener: l,
		Drain:    c.drain,
		Register: func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVServer(s, NewKV(keyspace, trialLimits, n.router))
			serverpb.RegisterDKVNodeServer(s, node)
			serverpb.RegisterDKVReplicationServer(s, n.service)
		},
	}).Stop
	conn := servertest.Connect(c.t, n.addr)
	n.DKVClient, n.ops = serverpb.NewDKVClient(conn), serverpb.NewDKVNodeClient(conn)
	n.replication = serverpb.NewDKVReplicationClient(conn)
	return n
}

// own lets all nodes know that one owns a vBucket.
func (c *trial) own(vBucket, node int) {
	for _, n := range c.nodes {
		n.replicas[vBucket].owner.Store(int64(node))
	}
}

// patience is a deadline that is not expected to be met.
const patience = testkit.Patience

// reason is what an error says to programs.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "dkv" {
			return info.GetReason()
		}
	}
	return ""
}

func putOf(key, value string) *serverpb.PutRequest {
	return &serverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func linearizable(key string) *serverpb.GetRequest {
	return &serverpb.GetRequest{Key: []byte(key), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
}

func mustPut(t testing.TB, n serverpb.DKVClient, key, value string) *serverpb.PutResponse {
	t.Helper()
	resp, err := n.Put(testkit.Within(t, patience), putOf(key, value))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func mustGet(t testing.TB, n serverpb.DKVClient, key, want string) {
	t.Helper()
	resp, err := n.Get(testkit.Within(t, patience), linearizable(key))
	if err != nil || string(resp.GetValue()) != want {
		t.Errorf("%s: %q, %v; want %q", key, resp.GetValue(), err, want)
	}
}

// vBucketOf names the vBucket of a key.
func (c *trial) vBucketOf(key string) string {
	var vs []VBucket
	for j := range c.states {
		vs = append(vs, VBucket{Name: fmt.Sprint("v", j)})
	}
	return NewKeyspace(vs...).Of([]byte(key)).Name
}

// keysOf returns n keys.
func keysOf(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "key-%05d", i)
	}
	return out
}

// timely makes a check of times again where it fails: a machine that stalls for
// tens of milliseconds says nothing about the code.
func timely(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for range 6 {
		if err = check(); err == nil {
			return
		}
	}
	t.Error(err)
}
