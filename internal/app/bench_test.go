package app

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
)

// BenchmarkNode measures calls of a whole node over loopback, with the client in the same
// process: gRPC, limits, access, metrics, the log and the storage engine. Its allocations
// are those of both sides; make bench-smoke bounds them.
func BenchmarkNode(b *testing.B) {
	for _, node := range []struct {
		name string
		args []string
	}{
		{"standalone", []string{"--disable-discovery-client"}},
		{"member", []string{"--role", "master", "--disable-discovery-client"}},
	} {
		b.Run(node.name, func(b *testing.B) {
			client := serverpb.NewDKVClient(connect(b, start(b, node.args...).grpc()))
			key, value := []byte("key-000000000001"), make([]byte, 128)
			put := &serverpb.PutRequest{Key: key, Value: value}
			b.Run("put", func(b *testing.B) {
				benchCalls(b, func(ctx context.Context) error { _, err := client.Put(ctx, put); return err })
			})
			for name, level := range map[string]serverpb.ReadConsistency{
				"get": serverpb.ReadConsistency_LINEARIZABLE, "getSequential": serverpb.ReadConsistency_SEQUENTIAL,
			} {
				get := &serverpb.GetRequest{Key: key, ReadConsistency: level}
				b.Run(name, func(b *testing.B) {
					benchCalls(b, func(ctx context.Context) error { _, err := client.Get(ctx, get); return err })
				})
			}
		})
	}
}

// benchCalls makes b.N calls, 32 at a time.
func benchCalls(b *testing.B, call func(context.Context) error) {
	ctx := b.Context()
	if err := call(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var begun atomic.Int64
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := call(ctx); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}
