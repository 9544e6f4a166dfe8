package raft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/clock"
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// fastTiming makes a cluster on loopback notice things soon.
var fastTiming = timing.Timing{RTT: 10 * time.Millisecond, Election: 20, Heartbeat: 2, Lease: 80 * time.Millisecond}

// cluster is a Raft group of nodes in this process.
type cluster struct {
	t *testing.T
	// dir holds the folders of all nodes. It is removed after the nodes are stopped,
	// since it is made before their end is registered with the test.
	dir     string
	nodes   []*node
	members map[uint64]string
	// every and keep are the snapshots' settings.
	every, keep uint64
	// clockOf makes the nodes' clocks; nil has them take their wall clocks' word.
	clockOf func(*node) *clock.Clock
	// timeout bounds a proposal, maxInMemory what a command may be, and what may be
	// on its way.
	timeout     time.Duration
	maxInMemory uint64
	confirm     bool
	// size is what the hosts take themselves for.
	size host.Size
	// timing is the members', by id, if it is not fastTiming.
	timing map[uint64]timing.Timing
	// faults are those of the first node; nil for none.
	faults *faults.Faults
	// net connects the nodes; nil leaves that to sockets.
	net *network
	// options changes what a node is opened with; nil changes nothing.
	options func(*node, *Options)
}

// node is one member. Its replica and host are nil while it is down.
type node struct {
	*Replica
	c    *cluster
	id   uint64
	join bool
	addr string
	path string
	host *host.Host
	stop context.CancelFunc
	ran  chan struct{}
	// ahead is by how much its wall clock is ahead, in nanoseconds.
	ahead atomic.Int64
	// fault is what every synced write of the engine fails with.
	fault atomic.Pointer[error]
	// gate holds up every write of the engine until it is closed.
	gate atomic.Pointer[chan struct{}]
	// gated is how many writes wait at the gate.
	gated atomic.Int64
	// reached is what others have heard that the node had applied.
	reached kv.Index
	// openFault returns what opening the engine of a folder fails with.
	openFault atomic.Pointer[func(dir string) error]
}

// newCluster starts a group of n.
func newCluster(t *testing.T, n int, changes ...func(*cluster)) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), members: make(map[uint64]string), every: 1000, keep: 100, timeout: 5 * time.Second, maxInMemory: 32 << 20}
	for _, change := range changes {
		change(c)
	}
	for i := range n {
		c.add(uint64(i+1), false)
		c.members[uint64(i+1)] = c.nodes[i].addr
	}
	for _, node := range c.nodes {
		node.start()
	}
	t.Cleanup(func() {
		for _, node := range c.nodes {
			node.kill()
		}
	})
	return c
}

// add makes a node that is not started yet.
func (c *cluster) add(id uint64, join bool) *node {
	n := &node{c: c, id: id, join: join, addr: testkit.Address(c.t), path: filepath.Join(c.dir, fmt.Sprint("n", id))}
	c.nodes = append(c.nodes, n)
	return n
}

// timeSource is what the node takes for the time.
func (n *node) timeSource() *clock.Clock {
	if n.c.clockOf != nil {
		return n.c.clockOf(n)
	}
	return replicatest.WallClock(n.wall)
}

// wall is the node's wall clock.
func (n *node) wall() time.Time { return time.Now().Add(time.Duration(n.ahead.Load())) }

func (n *node) openEngine(dir string) (storage.Engine, error) {
	if fault := n.openFault.Load(); fault != nil {
		if err := (*fault)(dir); err != nil {
			return nil, err
		}
	}
	engines := new(replicatest.Engines)
	engines.OnWrite(func() error {
		if err := n.fault.Load(); err != nil {
			return *err
		}
		return nil
	})
	e, err := engines.Open(dir)
	if disk, ok := e.(*replicatest.DiskEngine); ok {
		disk.BeforeWrite = n.passGate
	}
	return e, err
}

// passGate waits while writes are held up.
func (n *node) passGate() {
	if gate := n.gate.Load(); gate != nil {
		n.gated.Add(1)
		defer n.gated.Add(-1)
		<-*gate
	}
}

// holdWrites makes every write of the engine, synced or not, wait until release
// is called or the test ends.
func (n *node) holdWrites() (release func()) {
	gate := make(chan struct{})
	n.gate.Store(&gate)
	release = sync.OnceFunc(func() { n.gate.Store(nil); close(gate) })
	n.c.t.Cleanup(release)
	return release
}

// generations are the folders of the node's state.
func (n *node) generations() *datadir.Generations {
	n.c.t.Helper()
	dir, err := datadir.Open(filepath.Join(n.path, "db"), datadir.Identity{Engine: memory.Kind})
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer dir.Close()
	generations, err := dir.VBucket("default")
	if err != nil {
		n.c.t.Fatal(err)
	}
	return generations
}

// open opens the host and the replica.
func (n *node) open() error {
	n.c.t.Helper()
	generations := n.generations()
	onHost := host.Options{
		Dir: filepath.Join(n.path, "raft"), Address: n.addr, Deployment: 1, Timing: fastTiming,
		ConfirmReads: n.c.confirm, Size: n.c.size, Log: slog.New(slog.DiscardHandler),
	}
	if timing, set := n.c.timing[n.id]; set {
		onHost.Timing = timing
	}
	if n.c.net != nil {
		onHost.Transport = n.c.net
	}
	if n.id == 1 {
		onHost.Faults = n.c.faults
	}
	var err error
	if n.host, err = host.Open(onHost); err != nil {
		n.c.t.Fatal(err)
	}
	opts := Options{
		Options: state.Options{
			Database: "db", VBucket: "default", Open: n.openEngine, Generations: generations,
			OpenKind: func(_, dir string) (storage.Engine, error) { return memory.Open(memory.Options{Dir: dir}) },
			Version:  "v1", Log: slog.New(slog.DiscardHandler),
			Clock: n.timeSource(),
		},
		Shard: 1, Replica: n.id, Members: n.c.members, NonVoting: n.join,
		Self:    replica.Member{Name: fmt.Sprint("n", n.id), Address: fmt.Sprint("grpc-", n.id), RaftAddress: n.addr},
		Agreed:  command.NewestFormat,
		Timeout: n.c.timeout, SnapshotEvery: n.c.every, Keep: n.c.keep, MaxInMemory: n.c.maxInMemory,
	}
	if n.join {
		opts.Members = nil
	}
	if n.c.options != nil {
		n.c.options(n, &opts)
	}
	n.Replica, err = Open(n.host, opts)
	return err
}

func (n *node) start() {
	t := n.c.t
	t.Helper()
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop, n.ran = stop, make(chan struct{})
	go func() {
		defer close(n.ran)
		// A node that is killed while it starts hears of it from Dragonboat.
		if err := n.Run(ctx); err != nil && !errors.Is(err, host.ErrClosed) && !errors.Is(err, dragonboat.ErrClosed) {
			t.Error("run:", err)
		}
	}()
}

// shutdown stops the node as an operator does.
func (n *node) shutdown() {
	n.c.t.Helper()
	if n.Replica == nil {
		return
	}
	n.stop()
	<-n.ran
	n.kill()
}

// kill stops the node without a word to the others.
func (n *node) kill() {
	if n.Replica == nil {
		return
	}
	if err := errors.Join(n.host.Close(), n.Close()); err != nil {
		n.c.t.Error("close:", err)
	}
	n.stop()
	<-n.ran
	n.Replica, n.host = nil, nil
}

// patience bounds what must happen; it passes only in a test that fails.
const patience = testkit.Patience

// owner waits until a member owns the log.
func (c *cluster) owner() *node {
	c.t.Helper()
	var owner *node
	testkit.Eventually(c.t, "an owner", func() bool {
		for _, n := range c.nodes {
			if n.Replica != nil && n.State() == replica.Serving && n.keeper.Stats().Epoch != 0 && n.Owner().Self {
				owner = n
				return true
			}
		}
		return false
	})
	return owner
}

// follower returns a running member that does not own the log.
func (c *cluster) follower() *node {
	owner := c.owner()
	for _, n := range c.nodes {
		if n.Replica != nil && n != owner {
			return n
		}
	}
	c.t.Fatal("no follower")
	return nil
}

// lead makes a member the owner.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	testkit.Eventually(c.t, fmt.Sprintf("member %d owns the log", n.id), func() bool {
		if n.keeper.Stats().Epoch != 0 && n.Owner().Self {
			return true
		}
		for _, other := range c.nodes {
			if other.Replica != nil && other.Owner().Self {
				_ = other.TransferLeader(context.Background(), n.id) // or it is tried again
			}
		}
		return false
	})
}

// atOwner has the log's owner do something, and the next one again if the log changes
// hands meanwhile, as it may by itself on a busy machine.
func (c *cluster) atOwner(what string, do func(owner *node) error) {
	c.t.Helper()
	testkit.Eventually(c.t, what, func() bool {
		err := do(c.owner())
		if kind := kv.KindOf(err); err != nil && (kind != kv.NotOwner && kind != kv.Unavailable || kv.OutcomeOf(err) != kv.NotApplied) {
			c.t.Fatalf("%s: %v", what, err)
		}
		return err == nil
	})
}

// reconfigure changes the membership, as it is when change is called.
func (c *cluster) reconfigure(what string, change func(owner *node, m replica.Membership) error) {
	c.t.Helper()
	c.atOwner(what, func(owner *node) error {
		m, err := owner.Membership(context.Background())
		if err != nil {
			return err
		}
		return change(owner, m)
	})
}

// restore replaces the keyspace with a backup.
func (c *cluster) restore(dir string) {
	c.t.Helper()
	c.atOwner("restored", func(owner *node) error { return owner.Restore(context.Background(), dir) })
}

// put sets a key wherever the log is owned, trying again while it is not.
func (c *cluster) put(key, value string) kv.Index {
	c.t.Helper()
	var res command.Result
	var err error
	defer func() {
		if err != nil {
			c.t.Log("the last put:", err)
		}
	}()
	testkit.Eventually(c.t, "a put is acknowledged", func() bool {
		res, err = c.owner().Propose(context.Background(), replicatest.Put(key, value))
		return err == nil && res.Code == command.OK
	})
	return res.Index
}

// want checks what a linearizable read at the owner finds.
func (c *cluster) want(key, value string) {
	c.t.Helper()
	var pair kv.Pair
	var err error
	defer func() {
		if err != nil {
			c.t.Log("the last get:", err)
		}
	}()
	testkit.Eventually(c.t, "a linearizable read is answered", func() bool {
		pair, _, _, err = c.owner().Get(context.Background(), []byte(key), kv.ReadOptions{Level: kv.Linearizable})
		return err == nil
	})
	if string(pair.Value) != value {
		c.t.Errorf("%s is %q, want %q", key, pair.Value, value)
	}
}

// wantAt checks what a member's own state holds at an index.
func (n *node) wantAt(index kv.Index, key, value string) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pair, _, _, err := n.Get(ctx, []byte(key), kv.ReadOptions{MinIndex: index})
	if err != nil || string(pair.Value) != value {
		n.c.t.Errorf("at %d: %s is %q, %v; want %q", n.id, key, pair.Value, err, value)
	}
}
