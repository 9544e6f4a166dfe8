package rows

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/peer"
	"github.com/dkvdb/dkv/internal/sleep"
)

const (
	// registryInterval is how often the registry is asked for its nodes: they seldom change.
	registryInterval = 30 * time.Second
	// registryPatience bounds one question.
	registryPatience = 3 * time.Second
)

// registry knows the nodes of the registry, for those who look at the cluster.
type registry struct {
	addresses []string
	pool      *peer.Pool
	// retry is how often it is asked while it does not answer.
	retry time.Duration
	// nodes are nil until the registry was asked.
	nodes atomic.Pointer[[]*modelspb.NodeInfo]
}

// Nodes returns the nodes of the registry as it has listed them last. If it has never answered,
// they are the configured addresses. Callers do not change them.
func (r *registry) Nodes() []*modelspb.NodeInfo {
	if nodes := r.nodes.Load(); nodes != nil {
		return *nodes
	}
	return nil
}

// run asks the registry at intervals, until ctx ends.
func (r *registry) run(ctx context.Context) {
	for {
		wait := registryInterval
		if nodes := r.look(ctx); nodes != nil {
			r.nodes.Store(&nodes)
		} else {
			wait = r.retry
			nodes = r.configured()
			r.nodes.CompareAndSwap(nil, &nodes)
		}
		if !sleep.For(ctx, wait) {
			return
		}
	}
}

// look asks the addresses in turn until one lists the registry's nodes; nil if none does.
func (r *registry) look(ctx context.Context) []*modelspb.NodeInfo {
	for _, addr := range r.addresses {
		list := new(serverpb.ListNodesResponse)
		if r.call(ctx, addr, serverpb.DKVCluster_ListNodes_FullMethodName, list) != nil {
			continue
		}
		var out []*modelspb.NodeInfo
		for _, n := range list.GetNodes() {
			if len(list.GetNodes()) == 1 && n.GetHttpAddress() == "" {
				n = r.only(ctx, addr, n)
			}
			out = append(out, n)
		}
		if out != nil {
			return out
		}
	}
	return nil
}

// only completes what a registry of one lists by what it says of itself.
func (r *registry) only(ctx context.Context, addr string, n *modelspb.NodeInfo) *modelspb.NodeInfo {
	said := new(serverpb.NodeStatusResponse)
	if r.call(ctx, addr, serverpb.DKVNode_GetNodeStatus_FullMethodName, said) == nil {
		n.NodeName, n.HttpAddress = said.GetNodeName(), said.GetHttpAddress()
	}
	n.Address = addr
	return n
}

func (r *registry) call(ctx context.Context, addr, method string, answer proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	return r.pool.Call(ctx, addr, method, new(emptypb.Empty), answer)
}

// configured are the nodes as far as the configuration knows them.
func (r *registry) configured() []*modelspb.NodeInfo {
	out := make([]*modelspb.NodeInfo, len(r.addresses))
	for i, addr := range r.addresses {
		out[i] = &modelspb.NodeInfo{Address: addr, NodeName: addr}
	}
	return out
}
