package maintenance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/master/mastertest"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/route"
	"github.com/dkvdb/dkv/internal/server/servertest"
	"github.com/dkvdb/dkv/internal/storage"
)

func TestGetNodeStatus(t *testing.T) {
	r := newRig(t)
	r.MustPut("k", "v")
	s, err := r.Ops.GetNodeStatus(t.Context(), &emptypb.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	if s.GetNodeId() != "n1" || s.GetNodeName() != "node-1" || s.GetVersion() != "v1.2.3" || s.GetRole() != "none" ||
		s.GetEngine() != "memory" || s.GetDatabase() != "db" || s.GetAddress() != "10.0.0.1:8080" ||
		s.GetHttpAddress() != "10.0.0.1:8081" || len(s.GetVBuckets()) != 1 {
		t.Fatalf("%v", s)
	}
	v := s.GetVBuckets()[0]
	if v.GetVBucket() != "default" || v.GetMode() != "local" || v.GetState() != "serving" || !v.GetIsLeader() ||
		v.GetLeader() != "10.0.0.1:8080" || v.GetCommitIndex() != 1 || v.GetAppliedIndex() != 1 || v.GetWritesPaused() ||
		v.GetReason() != "" || v.GetFirstChangeNumber() != 1 || v.GetHistoryId() != r.Local.Status().Identity.History {
		t.Errorf("%v", v)
	}
}

// stored is a replica that takes this, and counts how often it was asked for that.
type stored struct {
	replica.Replica
	usage replica.Usage
	asked *int
}

func (s stored) Status() replica.Status { return replica.Status{} }

func (s stored) Owner() replica.Owner { return replica.Owner{} }

func (s stored) Usage() replica.Usage {
	*s.asked++
	return s.usage
}

// A cache that the engines share counts once, memtables and other caches add up. A status that is
// asked for often does not ask the engines each time.
func TestStatusSumsTheMemoryOfEngines(t *testing.T) {
	for _, tc := range []struct {
		shared bool
		cache  uint64
	}{{true, 40}, {false, 70}} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			vBucket := func(name string, s storage.Stats) route.VBucket {
				return route.VBucket{Name: name, Replica: stored{usage: replica.Usage{Storage: s}, asked: &asked}}
			}
			n := New(route.NewKeyspace(vBucket("0", storage.Stats{MemtableBytes: 5, CacheBytes: 40}), vBucket("1", storage.Stats{MemtableBytes: 6, CacheBytes: 30})),
				NodeInfo{SharesCache: tc.shared}, nil)
			for range 2 {
				for range 3 {
					resp, err := n.GetNodeStatus(t.Context(), nil)
					if err != nil || resp.GetMemtableBytes() != 11 || resp.GetCacheBytes() != tc.cache {
						t.Errorf("shared %v: %v, %v", tc.shared, resp, err)
					}
				}
				time.Sleep(heldInterval)
			}
			if asked != 4 {
				t.Errorf("each of two engines was asked %d times in two intervals", asked/2)
			}
		})
	}
}

func TestMembership(t *testing.T) {
	r := newRig(t)
	nodes, err := r.Cluster.ListNodes(t.Context(), &emptypb.Empty{})
	if err != nil || nodes.GetLeader() != 1 || len(nodes.GetNodes()) != 1 {
		t.Fatalf("%v, %v", nodes, err)
	}
	if n := nodes.GetNodes()[1]; n.GetNodeUrl() != "http://10.0.0.1:8080" || n.GetNodeId() != 1 || n.GetStatus() != modelspb.NodeInfo_LEADER ||
		n.GetAddress() != "10.0.0.1:8080" || n.GetHttpAddress() != "10.0.0.1:8081" || n.GetNodeName() != "node-1" || n.GetDcID() != "dc1" || n.GetNonVoting() {
		t.Errorf("%v", n)
	}
	for _, err := range changesOf(t.Context(), r.Cluster) {
		mastertest.WantStatus(t, err, codes.FailedPrecondition, "this node is standalone and has no cluster to change; start masters with --role master (not applied)")
	}
}

// changesOf are the errors of all changes of a cluster.
func changesOf(ctx context.Context, c serverpb.DKVClusterClient) []error {
	const url = "http://127.0.0.1:9021"
	return []error{
		second(c.AddNode(ctx, &serverpb.AddNodeRequest{NodeUrl: url})),
		second(c.RemoveNode(ctx, &serverpb.RemoveNodeRequest{NodeUrl: url})),
		second(c.TransferLeader(ctx, &serverpb.TransferLeaderRequest{NodeUrl: url})),
		second(c.StepDown(ctx, &emptypb.Empty{})),
		second(c.Snapshot(ctx, &serverpb.SnapshotRequest{})),
	}
}

// followed is a copy that knows, or does not know, who leads.
type followed struct {
	replica.Replica
	leader string
}

func (f followed) Owner() replica.Owner { return replica.Owner{Address: f.leader} }

// A slave sends to its leader, and does not speak of itself as standalone.
func TestSlaveChangesNoCluster(t *testing.T) {
	for leader, want := range map[string]string{
		"":              "this node is a slave and changes no cluster; ask a master (not applied)",
		"10.0.0.7:8080": "this node is a slave and changes no cluster; ask the leader at 10.0.0.7:8080 (not applied)",
	} {
		node := New(route.NewKeyspace(route.VBucket{Name: "v", Replica: followed{leader: leader}}), info, route.NewForCopies(nil, true))
		s := servertest.Start(t, servertest.Options{Register: func(s grpc.ServiceRegistrar) { serverpb.RegisterDKVClusterServer(s, node) }})
		c := serverpb.NewDKVClusterClient(servertest.Connect(t, s.Addr))
		for _, err := range changesOf(t.Context(), c) {
			mastertest.WantStatus(t, err, codes.FailedPrecondition, want)
		}
		nodes, err := c.ListNodes(t.Context(), &emptypb.Empty{})
		if n := nodes.GetNodes()[1]; err != nil || nodes.GetLeader() != 0 || n.GetStatus() != modelspb.NodeInfo_SLAVE || !n.GetNonVoting() || n.GetAddress() != info.Address {
			t.Errorf("it lists %v, %v", nodes, err)
		}
	}
}

func TestUnservedMethods(t *testing.T) {
	r := newRig(t)
	_, err := serverpb.NewDKVDiscoveryClient(r.Conn).UpdateStatus(t.Context(), &serverpb.UpdateStatusRequest{})
	mastertest.WantStatus(t, err, codes.Unimplemented, "unknown service dkv.serverpb.DKVDiscovery")
}
