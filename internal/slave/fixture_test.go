package slave

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/changelog"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/fsm/chunks"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/master/replication"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/follower"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is some masters, the network between them and slaves, and the slaves.
type rig struct {
	t    testing.TB
	pool *peer.Pool
	log  *slog.Logger
	logs *testkit.Log
	// report has a puller report to owners; nil has not.
	report func(*Puller)
	// delay is how long everything takes from node to node, one way.
	delay time.Duration
	// streams bounds the streams of slaves that a master admits; 0 is plenty. rate is how many bytes a
	// second a connection takes; 0 is any.
	streams int
	rate    atomic.Int64

	mu    sync.Mutex
	nodes map[string]*node
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, nodes: make(map[string]*node), logs: new(testkit.Log)}
	r.log = r.logs.Logger(slog.LevelInfo)
	r.pool = peer.NewPool(peer.Options{MaxMessageSize: 16 << 20, Dial: r.dial, Count: true})
	t.Cleanup(func() {
		r.pool.Close()
		if t.Failed() {
			t.Logf("log:\n%s", r.logs)
		}
	})
	return r
}

// node is a master, or a replica that serves changes as one does.
type node struct {
	rig  *rig
	addr string
	replica.Replica
	listener *bufconn.Listener
	// owner hears what slaves confirm.
	owner owner

	mu    sync.Mutex
	down  bool
	hung  chan struct{} // closed when the node goes on; nil while it runs
	conns map[*conn]bool
	// cut is after how many bytes that it has sent a connection breaks; 0 is never.
	cut int
	// sent counts the bytes that slaves have got.
	sent int
	// snapshots is how many are being sent, statuses how often the node was asked about itself.
	snapshots, statuses atomic.Int64
}

// open returns the options of replicas over memory engines.
func (r *rig) options() state.Options {
	return state.Options{
		Database: "db",
		VBucket:  "default",
		Open:     func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
		Log:      slog.New(slog.DiscardHandler),
	}
}

// master starts a node that owns its log.
func (r *rig) master(addr string, change ...func(*local.Options)) *node {
	r.t.Helper()
	opts := local.Options{Options: r.options()}
	for _, c := range change {
		c(&opts)
	}
	l, err := local.Open(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	testkit.Run(r.t, l.Run)
	r.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			r.t.Error("close:", err)
		}
	})
	return r.serve(addr, l)
}

// twin starts a node that has the same log as another one, as of the last sync.
func (r *rig) twin(addr string, of *node) *node {
	r.t.Helper()
	f := r.follower(follower.Options{Options: r.options()})
	if err := f.Replace(context.Background(), false, loadFrom(of)); err != nil {
		r.t.Fatal(err)
	}
	n := r.serve(addr, f)
	n.sync(of)
	return n
}

// sync brings a twin to where another node is.
func (n *node) sync(of *node) {
	n.rig.t.Helper()
	f := n.Replica.(*follower.Replica)
	_, at := f.Position()
	c, err := of.Changes(context.Background(), at+1, 0, 1<<30)
	if err != nil {
		n.rig.t.Fatal(err)
	}
	if err := f.Apply(context.Background(), at, c.Changes, c.Newest); err != nil {
		n.rig.t.Fatal(err)
	}
	f.Fresh(time.Now())
}

func (r *rig) follower(opts follower.Options) *follower.Replica {
	r.t.Helper()
	f, err := follower.Open(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	testkit.Run(r.t, f.Run)
	<-f.Served()
	r.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			r.t.Error("close:", err)
		}
	})
	return f
}

func loadFrom(src replica.Replica) follower.Load {
	return func(ctx context.Context, open func() (storage.Engine, error)) error {
		engine, err := open()
		if err != nil {
			return err
		}
		view, _, err := src.View(ctx, kv.ReadOptions{})
		if err != nil {
			return err
		}
		defer view.Close()
		l := chunks.NewLoader(engine)
		for position, more := []byte(nil), true; more; more = len(position) > 0 {
			var payload []byte
			if payload, position, err = view.Chunk(position, 1<<16); err != nil {
				return err
			}
			if err := l.Add(payload); err != nil {
				return err
			}
		}
		return l.Finish()
	}
}

// serve has a replica answer at an address.
func (r *rig) serve(addr string, rep replica.Replica) *node {
	n := &node{rig: r, addr: addr, Replica: rep, listener: bufconn.Listen(1 << 20), conns: make(map[*conn]bool)}
	keyspace := route.NewKeyspace(route.VBucket{Name: "default", Replica: rep})
	replication := replication.New(keyspace, nil)
	r.t.Cleanup(replication.Close)
	servertest.Start(r.t, servertest.Options{
		Listener: n.listener,
		Register: func(s grpc.ServiceRegistrar) {
			serverpb.RegisterDKVReplicationServer(s, counted{replication, n})
			peerpb.RegisterStandbyServer(s, &n.owner)
			serverpb.RegisterDKVNodeServer(s, countedNode{maintenance.New(keyspace, maintenance.NodeInfo{Address: addr, Database: "db", Started: time.Now()}, nil), n})
		},
		Drain:   time.Second,
		Streams: r.streams,
	})
	r.t.Cleanup(n.kill)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[addr] = n
	return n
}

// dial is the network of the rig.
func (r *rig) dial(ctx context.Context, addr string) (net.Conn, error) {
	r.mu.Lock()
	n := r.nodes[addr]
	r.mu.Unlock()
	if n == nil {
		return nil, errors.New("no route to host")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errors.New("connection refused")
	}
	raw, err := n.listener.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, node: n, closed: make(chan struct{})}
	n.conns[c] = true
	if r.delay > 0 {
		return newFarConn(c, r.delay), nil
	}
	return c, nil
}

// conn is a slave's connection to a node.
type conn struct {
	net.Conn
	node   *node
	got    int
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Read(p []byte) (int, error) {
	k, err := c.Conn.Read(p)
	c.node.mu.Lock()
	hung, cut := c.node.hung, c.node.cut
	c.got += k
	c.node.sent += k
	over := cut > 0 && c.got > cut
	c.node.mu.Unlock()
	if over {
		c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	if rate := c.node.rig.rate.Load(); rate > 0 {
		time.Sleep(time.Duration(k) * time.Second / time.Duration(rate))
	}
	if hung != nil {
		select {
		case <-hung:
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return k, err
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// kill breaks all connections and accepts none, like a process that was killed.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for c := range n.conns {
		c.Close()
		delete(n.conns, c)
	}
}

// revive lets slaves in again.
func (n *node) revive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}

// hang has the node say nothing any more, without breaking connections.
func (n *node) hang() (goOn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	hung := make(chan struct{})
	n.hung = hung
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		close(hung)
		n.hung = nil
	}
}

// cutAfter breaks each connection after so many bytes.
func (n *node) cutAfter(bytes int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = bytes
	for c := range n.conns {
		c.got = 0
	}
}

// received counts the bytes that slaves have got from the node.
func (n *node) received() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent
}

func (n *node) put(key, value string) kv.Index {
	n.rig.t.Helper()
	return n.write(kv.Mutation{Key: []byte(key), Value: []byte(value)})
}

func (n *node) write(ms ...kv.Mutation) kv.Index {
	n.rig.t.Helper()
	res, err := n.Propose(context.Background(), &command.Command{Kind: command.Write, Mutations: ms})
	if err != nil || res.Code != command.OK {
		n.rig.t.Fatalf("put: %v, %v", res, err)
	}
	return res.Index
}

// fill makes so many keys.
func (n *node) fill(prefix string, keys, size int) {
	n.rig.t.Helper()
	for i := 0; i < keys; i += 100 {
		var ms []kv.Mutation
		for j := i; j < min(keys, i+100); j++ {
			m := kv.Mutation{Key: fmt.Appendf(nil, "%s%06d", prefix, j), Value: bytes.Repeat([]byte{byte(j)}, size)}
			if j%10 == 0 {
				m.ExpireTS = 1 << 40
			}
			ms = append(ms, m)
		}
		n.write(ms...)
	}
}

// retain bounds a master's changelog.
func retain(r changelog.Retention) func(*local.Options) {
	return func(o *local.Options) { o.Retention = r }
}

// copy is a slave.
type copy struct {
	rig *rig
	*follower.Replica
	*Puller
	opts Options
	stop func()
}

// wrapper is a State that gets in the way of another one.
type wrapper interface{ wrap(*follower.Replica) }

// restart ends the puller and begins another one, as a process does.
func (c *copy) restart() {
	c.stop()
	opts := c.opts
	if _, wrapped := opts.State.(wrapper); !wrapped {
		opts.State = nil
	}
	c.pull(opts)
}

// slave starts a slave. change edits its options.
func (r *rig) slave(sources Sources, change ...func(*Options, *follower.Options)) *copy {
	r.t.Helper()
	state := follower.Options{Options: r.options()}
	opts := Options{
		VBucket: "default", DC: "dc1", Self: &serverpb.Replica{Zone: "dc1", Hostname: "slave", Port: 1},
		Sources: sources, Pool: r.pool, PollInterval: 500 * time.Millisecond, Log: r.log,
	}
	for _, c := range change {
		c(&opts, &state)
	}
	c := &copy{rig: r, Replica: r.follower(state)}
	return c.pull(opts)
}

// pull has a puller keep the copy.
func (c *copy) pull(opts Options) *copy {
	if opts.State == nil {
		opts.State = c.Replica
	} else {
		opts.State.(wrapper).wrap(c.Replica)
	}
	r := c.rig
	c.opts = opts
	c.Puller = New(opts)
	if opts.Moved != nil {
		r.report(c.Puller)
	}
	c.stop = testkit.Run(r.t, c.Puller.Run)
	return c
}

func streaming(o *Options, _ *follower.Options) { o.Mode = Stream }

func polling(o *Options, _ *follower.Options) { o.Mode = Poll }

// has waits until the slave has all that a node has.
func (c *copy) has(n *node) {
	c.rig.t.Helper()
	want := n.Replica.Status().Applied
	testkit.Eventually(c.rig.t, fmt.Sprintf("the slave is at %d", want), func() bool {
		id, at := c.Position()
		return at >= want && id == n.Replica.Status().Identity
	})
	c.equals(n)
}

// equals compares keys and changes with a node's that is at the same index.
func (c *copy) equals(n *node) {
	c.rig.t.Helper()
	if got, want := hashOf(c.rig.t, c.Replica), hashOf(c.rig.t, n.Replica); got != want {
		c.rig.t.Fatalf("the slave hashes %x (%d keys) at %d, the master %x (%d keys) at %d", got.Sum, got.Keys, got.Index, want.Sum, want.Keys, want.Index)
	}
	from := max(c.Replica.Status().ChangelogFloor, n.Replica.Status().ChangelogFloor)
	got, want := changesOf(c.rig.t, c.Replica, from), changesOf(c.rig.t, n.Replica, from)
	if !slices.EqualFunc(got, want, sameChange) {
		c.rig.t.Fatalf("from %d on the slave has %d changes and the master %d, or they differ", from, len(got), len(want))
	}
}

func sameChange(a, b kv.Change) bool {
	return a.Index == b.Index && a.Clock == b.Clock && slices.EqualFunc(a.Mutations, b.Mutations, func(a, b kv.Mutation) bool {
		return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && a.ExpireTS == b.ExpireTS && a.Delete == b.Delete
	})
}

func hashOf(t testing.TB, r replica.Replica) fsm.ContentHash {
	t.Helper()
	v, _, err := r.View(context.Background(), kv.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h, err := v.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func changesOf(t testing.TB, r replica.Replica, from kv.Index) []kv.Change {
	t.Helper()
	c, err := r.Changes(context.Background(), from, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return c.Changes
}

// row is a node as discovery tells of it.
func row(addr, dc string, status serverpb.RegionStatus, slaves uint32) *serverpb.RegionInfo {
	return &serverpb.RegionInfo{Database: "db", VBucket: "default", NodeAddress: addr, DcID: dc, Status: status, Slaves: slaves}
}

// row is a node as discovery tells of it when it is well.
func (n *node) row(status serverpb.RegionStatus) *serverpb.RegionInfo {
	out := row(n.addr, "dc1", status, 0)
	id := n.Replica.Status().Identity
	out.ClusterID, out.HistoryID = id.Cluster, id.History
	return out
}

// setSlave lists a slave at its masters.
func setSlave(zone, address string) *command.Command {
	return &command.Command{Kind: command.SetSlave, Flag: true, Expect: command.Slave{Zone: zone, Address: address}.Append(nil)}
}
