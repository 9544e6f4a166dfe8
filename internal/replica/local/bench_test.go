package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/local"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/memory"
)

func benchLocal(b *testing.B) *local.Replica {
	b.Helper()
	l, err := local.Open(local.Options{Options: state.Options{
		VBucket: "default",
		Open:    func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		Log:     slog.New(slog.DiscardHandler),
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done; l.Close() })
	return l
}

// BenchmarkPropose measures the way through the queue; the engine is memory.
func BenchmarkPropose(b *testing.B) {
	for _, workers := range []int{1, 32, 256} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			l := benchLocal(b)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			value := make([]byte, 128)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(workers/2, 1)) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				key := fmt.Appendf(nil, "key-%012d", n.Add(1))
				for pb.Next() {
					c := &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: key, Value: value}}}
					if _, err := l.Propose(ctx, c); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	l := benchLocal(b)
	ctx := context.Background()
	key := []byte("key-000000000001")
	c := &command.Command{Kind: command.Write, Mutations: []kv.Mutation{{Key: key, Value: make([]byte, 128)}}}
	if _, err := l.Propose(ctx, c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, _, err := l.Get(ctx, key, kv.ReadOptions{Level: kv.Linearizable}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
