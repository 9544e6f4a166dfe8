package rows

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/testkit"
)

// keeper is a node of a registry that lists these nodes.
type keeper struct {
	serverpb.UnimplementedDKVClusterServer
	serverpb.UnimplementedDKVNodeServer
	nodes map[uint64]*modelspb.NodeInfo
}

func (k keeper) ListNodes(context.Context, *emptypb.Empty) (*serverpb.ListNodesResponse, error) {
	return &serverpb.ListNodesResponse{Nodes: k.nodes}, nil
}

func (k keeper) GetNodeStatus(context.Context, *emptypb.Empty) (*serverpb.NodeStatusResponse, error) {
	return &serverpb.NodeStatusResponse{NodeName: "only", HttpAddress: "10.0.0.1:8081"}, nil
}

// keep serves a registry's node and returns its address.
func keep(t *testing.T, nodes map[uint64]*modelspb.NodeInfo) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	serverpb.RegisterDKVClusterServer(s, keeper{nodes: nodes})
	serverpb.RegisterDKVNodeServer(s, keeper{})
	return servertest.Serve(t, s, l).Addr
}

func ask(t *testing.T, addresses ...string) *registry {
	t.Helper()
	pool := peer.NewPool(peer.Options{MaxMessageSize: 1 << 20})
	t.Cleanup(func() { _ = pool.Close() })
	return &registry{addresses: addresses, pool: pool, retry: time.Hour}
}

// TestRegistryOfSeveral lists the members as the first node that answers does.
func TestRegistryOfSeveral(t *testing.T) {
	at := keep(t, map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeName: "r1", Address: "10.0.0.1:8080", HttpAddress: "10.0.0.1:8081"},
		2: {NodeId: 2, NodeName: "r2", Address: "10.0.0.2:8080", HttpAddress: "10.0.0.2:8081"},
	})
	r := ask(t, testkit.Address(t), at)
	names := make(map[string]string)
	for _, n := range r.look(t.Context()) {
		names[n.GetNodeName()] = n.GetHttpAddress()
	}
	if len(names) != 2 || names["r1"] != "10.0.0.1:8081" || names["r2"] != "10.0.0.2:8081" {
		t.Errorf("%v", names)
	}
}

// TestRegistryOfOne is completed by what the node says of itself.
func TestRegistryOfOne(t *testing.T) {
	at := keep(t, map[uint64]*modelspb.NodeInfo{1: {NodeId: 1, NodeUrl: "http://10.0.0.1:8080"}})
	got := ask(t, at).look(t.Context())
	if len(got) != 1 || got[0].GetNodeName() != "only" || got[0].GetHttpAddress() != "10.0.0.1:8081" || got[0].GetAddress() != at {
		t.Errorf("%v", got)
	}
}

// TestRegistryThatNeverAnswered shows by its configured addresses, once it was asked.
func TestRegistryThatNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{addresses: []string{"256.0.0.1:8080"}, pool: peer.NewPool(peer.Options{MaxMessageSize: 1 << 20}), retry: time.Hour}
		defer r.pool.Close()
		if got := r.Nodes(); got != nil {
			t.Errorf("%v before it was asked", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		time.Sleep(time.Minute)
		if got := r.Nodes(); len(got) != 1 || got[0].GetAddress() != "256.0.0.1:8080" || got[0].GetHttpAddress() != "" {
			t.Errorf("%v", got)
		}
		stop()
		<-done
	})
}
