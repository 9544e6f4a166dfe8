package attack

import (
	"context"
	"fmt"
	"math/rand/v2"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit/rawgrpc"
)

var streams = []Attack{
	{"health-watches", every, stalled(4000, healthpb.Health_Watch_FullMethodName, func() proto.Message { return &healthpb.HealthCheckRequest{} })},
	{"stalled-iterates", data, stalled(1000, serverpb.DKV_Iterate_FullMethodName, func() proto.Message {
		return &serverpb.IterateRequest{Batched: rand.IntN(2) == 0}
	})},
	{"iterates-at-large-values", alone, func(ctx context.Context, e *Enemy) {
		// Each batch that waits to be sent has a large pair behind it, which was read already.
		kv := e.kv(ctx)
		for i := range 6 {
			_, err := kv.Put(ctx, &serverpb.PutRequest{Key: fmt.Appendf(nil, "hostile/steps/%d", i), Value: make([]byte, 60<<10+(i%3/2)*(3<<20))})
			e.answered(err)
		}
		stalled(200, serverpb.DKV_Iterate_FullMethodName, func() proto.Message {
			return &serverpb.IterateRequest{Batched: true, KeyPrefix: []byte("hostile/steps/")}
		})(ctx, e)
	}},
	{"stalled-watches", data, stalled(1000, serverpb.DKVReplication_WatchChanges_FullMethodName, func() proto.Message {
		return &serverpb.WatchChangesRequest{FromChangeNumber: 1}
	})},
	{"quiet-watches", data, func(ctx context.Context, e *Enemy) {
		// Each reads every change of others, and sends nothing but heartbeats, which are taken.
		e.often(ctx, 8, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 1<<20, true)
			if c == nil {
				return false
			}
			defer c.Close()
			for range 200 {
				if _, ok := c.Call(serverpb.DKVReplication_WatchChanges_FullMethodName, &serverpb.WatchChangesRequest{KeyPrefix: []byte("no such prefix")}); !ok {
					return false
				}
			}
			e.drained(ctx, c)
			return false
		})
	}},
	{"stalled-change-streams", data, stalled(1000, serverpb.DKVReplication_StreamChanges_FullMethodName, func() proto.Message {
		return &serverpb.StreamChangesRequest{FromChangeNumber: 1, Replica: someReplica()}
	})},
	{"stalled-snapshots", data, stalled(1000, serverpb.DKVReplication_StreamSnapshot_FullMethodName, func() proto.Message {
		return &serverpb.StreamSnapshotRequest{Replica: someReplica()}
	})},
	{"stalled-registry-watches", []Kind{Registry}, stalled(1000, serverpb.DKVDiscovery_WatchClusterInfo_FullMethodName, func() proto.Message {
		return &serverpb.GetClusterInfoRequest{}
	})},
	{"snapshot-churn", []Kind{RocksDB, Masters}, churned(serverpb.DKVReplication_StreamSnapshot_FullMethodName, func() proto.Message {
		return &serverpb.StreamSnapshotRequest{SnapshotId: junkText(rand.IntN(20)), Position: junk(rand.IntN(20)), Replica: someReplica()}
	})},
	{"watch-churn", data, churned(serverpb.DKVReplication_WatchChanges_FullMethodName, func() proto.Message {
		return &serverpb.WatchChangesRequest{FromChangeNumber: 1, KeyPrefix: []byte("no such prefix")}
	})},
	{"iterate-churn", data, churned(serverpb.DKV_Iterate_FullMethodName, func() proto.Message {
		return &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency(rand.IntN(2)), KeysOnly: true, Reverse: rand.IntN(2) == 0}
	})},
	{"reflection", wire, stalled(1000, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", func() proto.Message {
		return &serverpb.GetRequest{} // empty, as every message may be
	})},
}

// someReplica names a slave that does not exist.
func someReplica() *serverpb.Replica {
	return &serverpb.Replica{Zone: junkText(20), Hostname: string(junkName()), Port: 1 + rand.Uint32N(60_000)}
}

func junkName() []byte {
	out := make([]byte, 12)
	for i := range out {
		out[i] = 'a' + byte(rand.IntN(26))
	}
	return out
}

// stalled begins streams of which it takes nothing, some on each of a few connections.
func stalled(each int, method string, request func() proto.Message) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		e.often(ctx, 16, func(ctx context.Context, _ int) bool {
			c := e.raw(ctx, 0, true)
			if c == nil {
				return false
			}
			defer c.Close()
			for range each {
				if !e.act(ctx) {
					break
				}
				if _, ok := c.Call(method, request()); !ok {
					break
				}
			}
			e.drained(ctx, c)
			return false
		})
	}
}

// churned begins streams and cancels each of them at once.
func churned(method string, request func() proto.Message) func(context.Context, *Enemy) {
	return flood(func(_ *Enemy, c *rawgrpc.Client) bool {
		s, ok := c.Call(method, request())
		if rand.IntN(4) == 0 {
			c.AwaitWindow(s) // for a moment
		}
		return ok && c.Reset(s)
	})
}
