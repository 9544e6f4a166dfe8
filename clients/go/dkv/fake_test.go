package dkv

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// enough is how long a test waits for what must happen.
const enough = testkit.Patience

// cluster is a database in memory that several nodes serve, all of one state.
type cluster struct {
	t testing.TB

	mu       sync.Mutex
	vBuckets []*fakeBucket
	nodes    []*fakeNode
	history  string
	ended    map[string]uint64 // the last changes of former histories that the present one has
	id       string            // with the vBucket's name, that of its state
	changed  chan struct{}     // is closed, and replaced, with each change
	replicas []*serverpb.Replica
}

// fakeBucket is a vBucket, with the changes from floor on.
type fakeBucket struct {
	name    string
	leader  *fakeNode
	term    uint64
	pairs   map[string]*serverpb.KVPair
	changes []*serverpb.ChangeRecord
	floor   uint64
	results map[requestKey]any
}

type requestKey struct{ client, sequence uint64 }

// newCluster makes a cluster of nodes, the first of which leads, with a number of
// vBuckets.
func newCluster(t testing.TB, nodes, vBuckets int) *cluster {
	c := &cluster{t: t, history: "h1", id: "c1", changed: make(chan struct{})}
	for range nodes {
		c.nodes = append(c.nodes, startNode(t, c, ""))
	}
	c.vBuckets = newBuckets(c.nodes[0], vBuckets)
	for i, b := range c.vBuckets {
		b.leader = c.nodes[i%nodes]
	}
	return c
}

func newBuckets(leader *fakeNode, n int) []*fakeBucket {
	out := make([]*fakeBucket, n)
	for i := range out {
		out[i] = &fakeBucket{name: strconv.Itoa(i), leader: leader, term: 1, floor: 1,
			pairs: make(map[string]*serverpb.KVPair), results: make(map[requestKey]any)}
	}
	if n == 1 {
		out[0].name = "default"
	}
	return out
}

// addrs is the target of all nodes.
func (c *cluster) addrs() string {
	var out []byte
	for i, n := range c.nodes {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, n.addr...)
	}
	return string(out)
}

// lead makes another node lead all vBuckets; nil means none.
func (c *cluster) lead(n *fakeNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.vBuckets {
		b.leader = n
		b.term++
	}
}

// remove removes a node, whose vBuckets another one leads from then on.
func (c *cluster) remove(n, successor *fakeNode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.removed = true
	for _, b := range c.vBuckets {
		if b.leader == n {
			b.leader = successor
			b.term++
		}
	}
}

func (c *cluster) of(key []byte) *fakeBucket {
	return c.vBuckets[(xxhash.Sum64(key)&0xFFFF)%uint64(len(c.vBuckets))]
}

// index is the newest of the first vBucket.
func (b *fakeBucket) index() uint64 { return b.floor + uint64(len(b.changes)) - 1 }

// add appends a change. The caller holds the cluster's mutex.
func (c *cluster) add(b *fakeBucket, trxns ...*serverpb.TrxnRecord) uint64 {
	index := b.index() + 1
	b.changes = append(b.changes, &serverpb.ChangeRecord{ChangeNumber: index, NumberOfTrxns: uint32(len(trxns)), Trxns: trxns,
		Clock: uint64(time.Now().UnixMilli())})
	for _, t := range trxns {
		if t.Type == serverpb.TrxnRecord_Delete {
			delete(b.pairs, string(t.Key))
		} else {
			b.pairs[string(t.Key)] = &serverpb.KVPair{Key: t.Key, Value: t.Value, ExpireTS: t.ExpireTS}
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return index
}

// ExampleServer is a server for the examples, in memory.
type ExampleServer struct{ cluster *cluster }

// StartExampleServer serves until t is cleaned up.
func StartExampleServer(t testing.TB) ExampleServer { return ExampleServer{newCluster(t, 1, 1)} }

// Address is that of the server.
func (s ExampleServer) Address() string { return s.cluster.addrs() }

// Empty removes all keys.
func (s ExampleServer) Empty() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	clear(s.cluster.vBuckets[0].pairs)
}

// fakeNode is a node of a cluster, with its faults.
type fakeNode struct {
	// asked is the ack level of the last MultiPut or Delete.
	asked atomic.Value
	serverpb.UnimplementedDKVServer
	serverpb.UnimplementedDKVNodeServer
	serverpb.UnimplementedDKVClusterServer
	serverpb.UnimplementedDKVReplicationServer
	cluster *cluster
	addr    string
	dc      string
	slave   bool
	// removed reports that the cluster has removed it, under the cluster's mutex.
	removed bool
	// floor is the first change that it retains if the vBucket retains earlier ones.
	floor uint64
	// own is its history if that is not the cluster's.
	own  string
	grpc *grpc.Server
	stop func()

	mu sync.Mutex
	// before is called with each request of the DKV service, after those that it
	// applied; an error is the answer.
	before, after func(ctx context.Context, method string) error
	// stallAt is the key before which an iteration is ended as one that has stalled.
	stallAt string
	calls   map[string]int
	// ids are those of the mutations, in the order in which they came.
	ids []*serverpb.RequestID
	// mute makes the node not answer at all.
	mute chan struct{}
	// alone makes its watches show no changes, and say that it has lost touch with the leader.
	alone atomic.Bool
	// expel ends one of its watches with an error.
	expel chan error
}

// startNode serves a node on an address, or a free one.
func startNode(t testing.TB, c *cluster, addr string, opts ...grpc.ServerOption) *fakeNode {
	t.Helper()
	if addr == "" {
		addr = testkit.Address(t)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n := &fakeNode{cluster: c, addr: l.Addr().String(), calls: make(map[string]int), expel: make(chan error)}
	opts = append(opts, grpc.UnaryInterceptor(n.intercept), grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
		MinTime: time.Second, PermitWithoutStream: true}))
	n.grpc = grpc.NewServer(opts...)
	serverpb.RegisterDKVServer(n.grpc, n)
	serverpb.RegisterDKVNodeServer(n.grpc, n)
	serverpb.RegisterDKVClusterServer(n.grpc, n)
	serverpb.RegisterDKVReplicationServer(n.grpc, n)
	served := servertest.Serve(t, n.grpc, l)
	n.stop = func() {
		n.unmute()
		served.Stop()
	}
	t.Cleanup(n.stop)
	return n
}

// hang makes the node take requests and not answer them.
func (n *fakeNode) hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = make(chan struct{})
}

func (n *fakeNode) unmute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mute != nil {
		close(n.mute)
		n.mute = nil
	}
}

func (n *fakeNode) fail(before, after func(context.Context, string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before, n.after = before, after
}

func (n *fakeNode) count(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

// requests are the ids of the mutations that came.
func (n *fakeNode) requests() []*serverpb.RequestID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ids)
}

func (n *fakeNode) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	n.mu.Lock()
	n.calls[info.FullMethod]++
	if m, ok := req.(interface{ GetRequestId() *serverpb.RequestID }); ok {
		n.ids = append(n.ids, m.GetRequestId())
	}
	before, after, mute := n.before, n.after, n.mute
	n.mu.Unlock()
	if m, ok := req.(interface{ GetCluster() uint64 }); ok {
		if err := n.cluster.checkCluster(m.GetCluster()); err != nil {
			return nil, err
		}
	}
	if mute != nil {
		select {
		case <-mute:
		case <-ctx.Done():
		}
		return nil, status.Error(codes.Unavailable, "hung")
	}
	if before != nil {
		if err := before(ctx, info.FullMethod); err != nil {
			return nil, err
		}
	}
	resp, err := h(ctx, req)
	if after != nil && err == nil {
		if err := after(ctx, info.FullMethod); err != nil {
			return nil, err
		}
	}
	return resp, err
}

// open makes a client that the test closes.
func open(t testing.TB, target string, opts ...Option) *Client {
	t.Helper()
	c, err := Open(t.Context(), target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pairs is the state of all vBuckets.
func (c *cluster) pairs() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]string)
	for _, b := range c.vBuckets {
		for key, p := range maps.All(b.pairs) {
			out[key] = string(p.Value)
		}
	}
	return out
}
