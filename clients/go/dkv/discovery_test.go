package dkv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// registry is a DKVDiscovery service.
type registry struct {
	serverpb.UnimplementedDKVDiscoveryServer
	addr  string
	polls bool // it has no WatchClusterInfo
	ends  bool // its streams end when they have told all
	// ownerless makes it begin no streams, as a registry that has lost its majority, and silent
	// makes it say nothing after the first rows of each.
	ownerless, silent bool
	stop              func()

	mu      sync.Mutex
	rows    []*serverpb.RegionInfo
	changed chan struct{}
	asked   string // the database of the last request
	watches int    // how many streams there were
}

func startRegistry(t *testing.T, addr string) *registry {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &registry{addr: l.Addr().String(), changed: make(chan struct{})}
	s := grpc.NewServer()
	serverpb.RegisterDKVDiscoveryServer(s, r)
	r.stop = servertest.Serve(t, s, l).Stop
	return r
}

// set makes the nodes of a cluster those that are registered.
func (r *registry) set(nodes ...*fakeNode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = nil
	for _, n := range nodes {
		r.rows = append(r.rows, &serverpb.RegionInfo{DcID: n.dc, Database: "db", VBucket: "default", NodeAddress: n.addr,
			Status: serverpb.RegionStatus_SECONDARY_FOLLOWER})
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *registry) now() ([]*serverpb.RegionInfo, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows, r.changed
}

func (r *registry) GetClusterInfo(_ context.Context, q *serverpb.GetClusterInfoRequest) (*serverpb.GetClusterInfoResponse, error) {
	rows, _ := r.now()
	r.mu.Lock()
	r.asked = q.GetDatabase()
	r.mu.Unlock()
	return &serverpb.GetClusterInfoResponse{RegionInfos: rows}, nil
}

func (r *registry) WatchClusterInfo(q *serverpb.GetClusterInfoRequest, s grpc.ServerStreamingServer[serverpb.ClusterInfoChange]) error {
	if r.polls {
		return status.Error(codes.Unimplemented, "unknown method")
	}
	r.mu.Lock()
	r.asked = q.GetDatabase()
	r.watches++
	r.mu.Unlock()
	if r.ownerless {
		<-s.Context().Done()
		return nil
	}
	var gone []*serverpb.RegionInfo
	for {
		rows, changed := r.now()
		// In two messages, of which only the second makes the rows complete.
		if err := s.Send(&serverpb.ClusterInfoChange{Gone: gone, Rows: rows[:len(rows)/2]}); err != nil {
			return err
		}
		if err := s.Send(&serverpb.ClusterInfoChange{Rows: rows[len(rows)/2:], Complete: true}); err != nil {
			return err
		}
		if r.ends {
			return nil
		}
		gone = rows
		if err := r.await(s, changed); err != nil {
			return err
		}
	}
}

// await waits for a change, with signs of life unless the registry is silent.
func (r *registry) await(s grpc.ServerStreamingServer[serverpb.ClusterInfoChange], changed <-chan struct{}) error {
	for {
		sign := time.After(time.Second)
		if r.silent {
			sign, changed = nil, nil
		}
		select {
		case <-changed:
			return nil
		case <-sign:
			if err := s.Send(&serverpb.ClusterInfoChange{}); err != nil {
				return err
			}
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// A registry that has lost its majority cannot be watched, and says all the same which nodes it
// knew last: old rows are better than none.
func TestRegistryWithoutOwner(t *testing.T) {
	cl := newCluster(t, 2, 1)
	r := startRegistry(t, testkit.Address(t))
	r.ownerless = true
	r.set(cl.nodes...)
	c := ready(t, "discovery://"+r.addr+"/db")
	must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
}

// A registry that stays silent, as one behind a proxy that keeps the connection up, is left for
// the next one.
func TestRegistryThatStaysSilent(t *testing.T) {
	t.Parallel()
	cl := newCluster(t, 2, 1)
	silent, next := startRegistry(t, testkit.Address(t)), startRegistry(t, testkit.Address(t))
	silent.silent = true
	silent.set(cl.nodes[0])
	next.set(cl.nodes...)
	c := ready(t, "discovery://"+silent.addr+","+next.addr+"/db")
	testkit.Eventually(t, "the next registry is followed", func() bool { return len(c.topology.Load().vBuckets[0].replicas) == 2 })
}

func TestDiscovery(t *testing.T) {
	for _, polls := range []bool{false, true} {
		cl := newCluster(t, 3, 1)
		r := startRegistry(t, testkit.Address(t))
		r.polls = polls
		r.set(cl.nodes[:2]...)
		c := ready(t, "discovery://"+testkit.Address(t)+","+r.addr+"/db")
		replicas := func(want ...*fakeNode) {
			t.Helper()
			testkit.Eventually(t, "the registered nodes are used", func() bool {
				top := c.topology.Load()
				if top == nil || len(top.vBuckets[0].replicas) != len(want) {
					return false
				}
				for _, n := range want {
					node, err := c.node(n.addr)
					if err != nil || node.reachable() && !contains(top.vBuckets[0].replicas, node) {
						return false
					}
				}
				return true
			})
		}
		replicas(cl.nodes[:2]...)
		r.mu.Lock()
		asked := r.asked
		r.mu.Unlock()
		if asked != "db" {
			t.Errorf("asked for database %q", asked)
		}
		must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
		cl.lead(cl.nodes[1])
		r.set(cl.nodes[1:]...)
		replicas(cl.nodes[1:]...)
		must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
		// Without the registry the client keeps what it knows.
		r.stop()
		cl.lead(cl.nodes[2])
		must[uint64](t)(c.Put(testkit.Within(t, enough), []byte("k"), nil))
		// With the registry back, the client follows its changes again.
		again := startRegistry(t, r.addr)
		again.set(cl.nodes[2])
		replicas(cl.nodes[2])
	}
}

func contains(nodes []*node, n *node) bool {
	for _, one := range nodes {
		if one == n {
			return true
		}
	}
	return false
}

func TestNoRegistry(t *testing.T) {
	c := open(t, "discovery://"+testkit.Address(t)+"/db")
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() { failed <- c.WaitReady(ctx) }()
	testkit.Eventually(t, "the registry is missed", func() bool {
		c.learner.mu.Lock()
		defer c.learner.mu.Unlock()
		return c.learner.registry != nil
	})
	cancel()
	if err := <-failed; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The row of a node that lags does not count as a replica.
func TestRegistryRows(t *testing.T) {
	rows := make(registryRows)
	l := newLearner(&Client{})
	members := func() map[string]string {
		t.Helper()
		out := make(map[string]string)
		for _, c := range must[[]candidate](t)(l.candidates(rows)) {
			out[c.addr] = c.dc
		}
		return out
	}
	row := func(addr, vBucket string, s serverpb.RegionStatus) *serverpb.RegionInfo {
		return &serverpb.RegionInfo{DcID: "dc", NodeAddress: addr + ":1", VBucket: vBucket, Status: s}
	}
	rows.apply(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{
		row("a", "0", serverpb.RegionStatus_LEADER), row("a", "1", serverpb.RegionStatus_LEADER),
		row("b", "0", serverpb.RegionStatus_INACTIVE), row("c", "0", serverpb.RegionStatus_ACTIVE_SLAVE)}}, "")
	if got := members(); len(got) != 2 || got["a:1"] != "dc" || got["c:1"] != "dc" {
		t.Errorf("%v", got)
	}
	rows.apply(&serverpb.ClusterInfoChange{Gone: []*serverpb.RegionInfo{row("a", "0", 0), row("c", "0", 0)},
		Rows: []*serverpb.RegionInfo{row("b", "0", serverpb.RegionStatus_LEADER)}}, "")
	if got := members(); len(got) != 2 || got["a:1"] != "dc" || got["b:1"] != "dc" {
		t.Errorf("%v", got)
	}
	moved := row("b", "0", serverpb.RegionStatus_LEADER)
	moved.DcID = "elsewhere"
	rows.apply(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{moved}}, "")
	if got := members(); len(got) != 2 || got["b:1"] != "elsewhere" {
		t.Errorf("a node that moved to another data centre: %v", got)
	}
	rows.apply(&serverpb.ClusterInfoChange{Gone: []*serverpb.RegionInfo{moved}}, "")
	if got := members(); len(got) != 1 || got["a:1"] != "dc" {
		t.Errorf("after it went: %v", got)
	}
}

// However many slaves a registry lists, and before the masters, these are known.
func TestMastersAmongManySlaves(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is probed
	l := newLearner(&Client{ctx: ctx})
	list := func(name string, n int, s serverpb.RegionStatus) *serverpb.ClusterInfoChange {
		out := new(serverpb.ClusterInfoChange)
		for i := range n {
			out.Rows = append(out.Rows, &serverpb.RegionInfo{NodeAddress: fmt.Sprintf("%s%d:1", name, i), VBucket: "0", Status: s})
		}
		return out
	}
	rows := make(registryRows)
	rows.apply(list("slave", maxRows+1, serverpb.RegionStatus_ACTIVE_SLAVE), "")
	rows.apply(list("master", 3, serverpb.RegionStatus_SECONDARY_FOLLOWER), "")
	if len(rows) != maxRows+3 {
		t.Fatalf("%d rows", len(rows))
	}
	for range 3 {
		l.setMembers(must[[]candidate](t)(l.candidates(rows)))
		masters := 0
		for _, c := range l.known {
			if !c.slave {
				masters++
			}
		}
		if masters != 3 || len(l.known) != maxKnown {
			t.Fatalf("%d masters are known, among %d nodes", masters, len(l.known))
		}
	}
	rows.apply(list("other", 2*maxRows, serverpb.RegionStatus_SECONDARY_FOLLOWER), "")
	if len(rows) != 2*maxRows {
		t.Errorf("%d rows", len(rows))
	}
}
