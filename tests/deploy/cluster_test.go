package deploy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/tests/deploy/scraped"
)

// startNodes starts a cluster, and clients that use it until the test ends.
func startNodes(t *testing.T) scraped.Cluster {
	t.Helper()
	out := scraped.StartCluster(t)
	for _, m := range out["master"] {
		use(t, m.GRPC)
	}
	lookUp(t, out["discovery"][0].GRPC)
	return out
}

// use makes requests to a node until the test ends.
func use(t *testing.T, address string) {
	client := serverpb.NewDKVClient(scraped.Dial(t, address))
	scraped.Forever(t, func(ctx context.Context, i int) {
		key := fmt.Appendf(nil, "key-%d", i%100)
		_, _ = client.Put(ctx, &serverpb.PutRequest{Key: key, Value: make([]byte, 100), ExpireTS: uint64(time.Now().Add(time.Second).Unix())})
		_, _ = client.Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
	})
}

// lookUp asks a registry until the test ends.
func lookUp(t *testing.T, address string) {
	client := serverpb.NewDKVDiscoveryClient(scraped.Dial(t, address))
	scraped.Forever(t, func(ctx context.Context, _ int) { _, _ = client.GetClusterInfo(ctx, &serverpb.GetClusterInfoRequest{}) })
}
