package raft

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/replicatest"
	"github.com/dkvdb/dkv/internal/replica/state"
	"github.com/dkvdb/dkv/internal/storage"
	"github.com/dkvdb/dkv/internal/storage/datadir"
	"github.com/dkvdb/dkv/internal/storage/memory"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/timing"
)

// benchRaft runs a group of one.
func benchRaft(b *testing.B) *Replica {
	b.Helper()
	path := b.TempDir()
	dir, err := datadir.Open(filepath.Join(path, "db"), datadir.Identity{Engine: memory.Kind})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { dir.Close() })
	generations, err := dir.VBucket("default")
	if err != nil {
		b.Fatal(err)
	}
	discard := slog.New(slog.DiscardHandler)
	address := testkit.Address(b)
	host, err := host.Open(host.Options{
		Dir: filepath.Join(path, "raft"), Address: address, Deployment: 1, Timing: lan, Log: discard,
	})
	if err != nil {
		b.Fatal(err)
	}
	r, err := Open(host, Options{
		Options: state.Options{
			VBucket: "default", Generations: generations, Log: discard,
			Open: func(string) (storage.Engine, error) { return memory.Open(memory.Options{}) },
		},
		Shard: 1, Replica: 1, Members: map[uint64]string{1: address}, Timeout: 5 * time.Second,
		SnapshotEvery: 1 << 30, MaxInMemory: 32 << 20,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() {
		stop()
		<-done
		if err := r.Close(); err != nil {
			b.Error(err)
		}
		if err := host.Close(); err != nil {
			b.Error(err)
		}
	})
	for {
		_, err := r.Propose(context.Background(), replicatest.Put("k", "v"))
		if err == nil {
			return r
		}
		if kv.KindOf(err) != kv.NotOwner {
			b.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // an election is under way
	}
}

func BenchmarkRaftPropose(b *testing.B) {
	for _, workers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			r := benchRaft(b)
			b.ReportAllocs()
			var wg sync.WaitGroup
			n := make(chan struct{}, b.N)
			for range b.N {
				n <- struct{}{}
			}
			close(n)
			b.ResetTimer()
			for range workers {
				wg.Go(func() {
					for range n {
						if _, err := r.Propose(context.Background(), replicatest.Put("some-key-16-byte", "v")); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkRaftGet reads under the lease.
func BenchmarkRaftGet(b *testing.B) {
	r := benchRaft(b)
	ctx, key := context.Background(), []byte("k")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := r.Get(ctx, key, kv.ReadOptions{Level: kv.Linearizable}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRaftOwner is what every request asks first.
func BenchmarkRaftOwner(b *testing.B) {
	r := benchRaft(b)
	b.ReportAllocs()
	for b.Loop() {
		if !r.Owner().Self {
			b.Fatal("not the owner")
		}
	}
}

// lan is the timing of members in one data centre, as raft-profile sets it.
var lan = timing.Timing{RTT: 50 * time.Millisecond, Election: 20, Heartbeat: 2, Lease: 400 * time.Millisecond}
