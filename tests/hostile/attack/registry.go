package attack

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/dkvdb/dkv/api/serverpb"
)

var registry = []Attack{
	{"many-rows", []Kind{Registry}, update(func() []*serverpb.RegionInfo {
		out := make([]*serverpb.RegionInfo, 1000)
		for i := range out {
			out[i] = row(string(junkName()), fmt.Sprint(rand.IntN(1024)))
		}
		return out
	})},
	{"many-rows-of-a-vbucket", []Kind{Registry}, update(func() []*serverpb.RegionInfo {
		out := make([]*serverpb.RegionInfo, 1000)
		for i := range out {
			out[i] = row("hostile", "0")
		}
		return out
	})},
	{"large-rows", []Kind{Registry}, update(func() []*serverpb.RegionInfo {
		out := row(junkText(1<<20), junkText(1<<20))
		out.NodeName, out.HttpAddress, out.ClusterID, out.HistoryID = junkText(1<<20), junkText(1<<20), junkText(1<<20), junkText(1<<20)
		return []*serverpb.RegionInfo{out}
	})},
	{"odd-rows", []Kind{Registry}, update(func() []*serverpb.RegionInfo {
		out := row([]string{"", "default", "\x00", "a\nb", "\x1b[31m"}[rand.IntN(5)], []string{"", "default", "-1", "99999999999999999999"}[rand.IntN(4)])
		out.NodeAddress = []string{"", "x", ":", "0.0.0.0:0", "[::1]:99999", "a:b:c", "127.0.0.1:1"}[rand.IntN(7)]
		out.Status = serverpb.RegionStatus(rand.IntN(20) - 5)
		out.VBuckets, out.Term, out.SilentQuarters = rand.Uint32(), rand.Uint64(), rand.Uint32()
		return []*serverpb.RegionInfo{out}
	})},
	{"impostors", []Kind{Registry}, update(func() []*serverpb.RegionInfo {
		out := row("default", "default")
		out.Term, out.VBuckets = 1<<60, 1+rand.Uint32N(8)
		return []*serverpb.RegionInfo{out}
	})},
	{"look-ups", []Kind{Registry}, func(ctx context.Context, e *Enemy) {
		registry := serverpb.NewDKVDiscoveryClient(e.client(ctx))
		e.calls(ctx, 64, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := registry.GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{SummaryOnly: rand.IntN(2) == 0})
			return err
		})
	}},
}

// row is that of a node that there is not, which claims to lead.
func row(database, vBucket string) *serverpb.RegionInfo {
	return &serverpb.RegionInfo{
		DcID: "x", NodeAddress: fmt.Sprintf("127.66.%d.%d:%d", rand.IntN(256), 1+rand.IntN(254), 1+rand.IntN(60_000)),
		Database: database, VBucket: vBucket, Status: serverpb.RegionStatus_LEADER, NodeName: string(junkName()), NodeID: "1",
		ClusterID: string(junkName()), HistoryID: string(junkName()), Term: 7, VBuckets: 1024,
	}
}

// update sends heartbeats of nodes that there are not.
func update(rows func() []*serverpb.RegionInfo) func(context.Context, *Enemy) {
	return func(ctx context.Context, e *Enemy) {
		registry := serverpb.NewDKVDiscoveryClient(e.client(ctx))
		e.calls(ctx, 16, func(ctx context.Context, _ serverpb.DKVClient) error {
			all := rows()
			_, err := registry.UpdateStatus(ctx, &serverpb.UpdateStatusRequest{RegionInfo: all[0], More: all[1:], Timestamp: rand.Uint64()})
			return err
		})
	}
}
