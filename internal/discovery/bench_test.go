package discovery

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
)

const (
	benchNodes    = 1000
	benchVBuckets = 100 // of each node
)

// benchRequests are the heartbeats of all nodes, as they arrive.
func benchRequests(b *testing.B) [][]byte {
	b.Helper()
	out := make([][]byte, benchNodes)
	for node := range out {
		req := &serverpb.UpdateStatusRequest{Timestamp: uint64(time.Now().Unix())}
		for i := range benchVBuckets {
			vBucket, status := node/3*benchVBuckets+i, secondary // in groups of three nodes
			if node%3 == 0 {
				status = leader
			}
			req.More = append(req.More, region(fmt.Sprintf("db%d/%d/10.0.%d.%d:8080/dc1", vBucket/1000, vBucket, node/256, node%256), status, term(3),
				func(r *serverpb.RegionInfo) {
					r.NodeName, r.NodeID = fmt.Sprint("node-", node), fmt.Sprint(node)
					r.HttpAddress = fmt.Sprintf("10.0.%d.%d:8081", node/256, node%256)
					r.ClusterID, r.HistoryID = "0123456789abcdef", "fedcba9876543210"
					r.ChangeNumber = 1000
				}))
		}
		var err error
		if out[node], err = proto.Marshal(req); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

func decodeRequest(b *testing.B, in []byte) *serverpb.UpdateStatusRequest {
	req := new(serverpb.UpdateStatusRequest)
	if err := proto.Unmarshal(in, req); err != nil {
		b.Fatal(err)
	}
	return req
}

// benchRegistry holds 100 000 rows.
func benchRegistry(b *testing.B) (*Registry, [][]byte) {
	b.Helper()
	l := newLog(b)
	l.elect(1)
	r := newRegistry(b, l, 1, Options{HeartbeatTimeout: time.Hour, StatusTTL: time.Hour})
	requests := benchRequests(b)
	for _, in := range requests {
		if _, err := r.UpdateStatus(b.Context(), decodeRequest(b, in)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	return r, requests
}

// BenchmarkUpdateStatus is the heartbeat of a node with 100 vBuckets, decoding left
// out; with new change numbers, and without.
func BenchmarkUpdateStatus(b *testing.B) {
	for _, c := range []struct {
		name string
		edit func(*serverpb.RegionInfo, int)
	}{
		{"same", func(*serverpb.RegionInfo, int) {}},
		{"numbers", func(r *serverpb.RegionInfo, i int) { r.ChangeNumber = uint64(i) }},
		{"terms", func(r *serverpb.RegionInfo, i int) { r.Term = uint64(10 + i/benchNodes) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			r, requests := benchRegistry(b)
			for i := 0; i < b.N; i++ {
				b.StopTimer()
				req := decodeRequest(b, requests[i%benchNodes])
				for _, in := range req.More {
					c.edit(in, i)
				}
				b.StartTimer()
				if _, err := r.UpdateStatus(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchVBuckets, "ns/row")
		})
	}
}

// BenchmarkGetClusterInfo looks rows up among 100 000.
func BenchmarkGetClusterInfo(b *testing.B) {
	db, vBucket, dc := "db4", "4711", "dc1"
	for _, c := range []struct {
		name string
		req  *serverpb.GetClusterInfoRequest
	}{
		{"vBucket", &serverpb.GetClusterInfoRequest{Database: &db, VBucket: &vBucket, DcID: &dc}},
		{"all", new(serverpb.GetClusterInfoRequest)},
	} {
		b.Run(c.name, func(b *testing.B) {
			r, _ := benchRegistry(b)
			for b.Loop() {
				if res, err := r.GetClusterInfo(b.Context(), c.req); err != nil || len(res.GetRegionInfos()) < 3 {
					b.Fatal(res, err)
				}
			}
		})
	}
}

// BenchmarkTakeOver reads 100 000 stored rows, as a new owner does.
func BenchmarkTakeOver(b *testing.B) {
	r, _ := benchRegistry(b)
	for b.Loop() {
		if g, err := beginReign(b.Context(), r.store, r.times, r.limits, r.damaged); err != nil || len(g.table.rows) != benchNodes*benchVBuckets {
			b.Fatal(err)
		}
	}
}

// BenchmarkExpire looks for rows that timed out among rows that have not.
func BenchmarkExpire(b *testing.B) {
	r, _ := benchRegistry(b)
	table := r.current.Load().table
	for b.Loop() {
		table.expire(time.Now())
	}
}
