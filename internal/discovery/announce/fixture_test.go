package announce

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRegistry is what several nodes of a registry know together.
type fakeRegistry struct {
	mu       sync.Mutex
	requests []*serverpb.UpdateStatusRequest
	rows     []*serverpb.RegionInfo
	fault    error
	// polled and watched count requests.
	polled, watched int
	// unwatched refuses watches as a registry of the first contract does.
	unwatched bool
	// ownerless has watches refused as a registry without an owner does.
	ownerless bool
	watches   map[chan *serverpb.ClusterInfoChange]bool
}

func newFakeRegistry(rows ...*serverpb.RegionInfo) *fakeRegistry {
	return &fakeRegistry{rows: rows, watches: make(map[chan *serverpb.ClusterInfoChange]bool)}
}

// set changes the registry.
func (f *fakeRegistry) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// push sends a change to all who watch.
func (f *fakeRegistry) push(m *serverpb.ClusterInfoChange) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watches {
		w <- m
	}
}

// heartbeats are the rows of all requests so far, with their status.
func (f *fakeRegistry) heartbeats() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, r := range f.requests {
		for _, in := range append([]*serverpb.RegionInfo{r.GetRegionInfo()}, r.GetMore()...) {
			out = append(out, in.GetVBucket()+" "+in.GetStatus().String())
		}
	}
	return out
}

func (f *fakeRegistry) heard(what string) func() bool {
	return func() bool { return slices.Contains(f.heartbeats(), what) }
}

// fakeNode is one node of it.
type fakeNode struct {
	serverpb.UnimplementedDKVDiscoveryServer
	*fakeRegistry
	addr string
	stop func()
	busy error // of this node alone
}

func (n *fakeNode) UpdateStatus(_ context.Context, r *serverpb.UpdateStatusRequest) (*serverpb.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := cmp.Or(n.busy, n.fault); err != nil {
		return nil, err
	}
	n.requests = append(n.requests, r)
	return &serverpb.Status{}, nil
}

func (n *fakeNode) GetClusterInfo(context.Context, *serverpb.GetClusterInfoRequest) (*serverpb.GetClusterInfoResponse, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault != nil {
		return nil, n.fault
	}
	n.polled++
	return &serverpb.GetClusterInfoResponse{RegionInfos: n.rows}, nil
}

func (n *fakeNode) WatchClusterInfo(_ *serverpb.GetClusterInfoRequest, stream grpc.ServerStreamingServer[serverpb.ClusterInfoChange]) error {
	changes := make(chan *serverpb.ClusterInfoChange, 100)
	n.mu.Lock()
	rows, fault := n.rows, n.fault
	n.watched++
	if n.unwatched {
		fault = status.Error(codes.Unimplemented, "unknown method WatchClusterInfo")
	}
	if n.ownerless {
		fault = kv.Errorf(kv.Unavailable, "no node owns the registry")
	}
	n.watches[changes] = true
	n.mu.Unlock()
	defer n.set(func() { delete(n.watches, changes) })
	if fault != nil {
		return fault
	}
	for _, r := range rows {
		if err := stream.Send(&serverpb.ClusterInfoChange{Rows: []*serverpb.RegionInfo{r}}); err != nil {
			return err
		}
	}
	if err := stream.Send(&serverpb.ClusterInfoChange{Complete: true}); err != nil {
		return err
	}
	for {
		select {
		case m := <-changes:
			if m == nil {
				return kv.Errorf(kv.Unavailable, "the registry's owner is changing")
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// serve runs a node of a registry.
func serve(t *testing.T, f *fakeRegistry) *fakeNode {
	t.Helper()
	n := &fakeNode{fakeRegistry: f}
	n.start(t, testkit.Listen(t))
	return n
}

// restart has a node that was stopped come back.
func (n *fakeNode) restart(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	n.start(t, l)
}

func (n *fakeNode) start(t *testing.T, l net.Listener) {
	t.Helper()
	s := servertest.Start(t, servertest.Options{
		Listener: l, Register: func(r grpc.ServiceRegistrar) { serverpb.RegisterDKVDiscoveryServer(r, n) },
	})
	n.addr, n.stop = s.Addr, s.Stop
}

func newPool(t *testing.T) *peer.Pool {
	p := peer.NewPool(peer.Options{MaxMessageSize: 16 << 20})
	t.Cleanup(func() { p.Close() })
	return p
}

// region is a row of node a:1.
func region(vBucket string, s serverpb.RegionStatus) *serverpb.RegionInfo {
	return &serverpb.RegionInfo{DcID: "dc1", Database: "db", VBucket: vBucket, NodeAddress: "a:1", Status: s}
}

const (
	leader = serverpb.RegionStatus_LEADER
	slave  = serverpb.RegionStatus_ACTIVE_SLAVE
)

// text writes rows.
func text(rows []*serverpb.RegionInfo) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%s %v", r.GetVBucket(), r.GetStatus()))
	}
	return out
}
