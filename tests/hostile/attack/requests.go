package attack

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/api/serverpb"
)

var requests = []Attack{
	{"falling-acknowledgements", data, func(ctx context.Context, e *Enemy) {
		var sent atomic.Uint64
		e.calls(ctx, 64, func(ctx context.Context, kv serverpb.DKVClient) error {
			n := sent.Add(1)
			_, err := kv.Put(ctx, &serverpb.PutRequest{Key: []byte("hostile/ids"), RequestId: &serverpb.RequestID{
				ClientId: 1 + n%3, Sequence: 1<<40 + n, Acked: 1<<40 - n,
			}})
			return err
		})
	}},
	{"many-client-ids", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 64, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.Put(ctx, &serverpb.PutRequest{Key: []byte("hostile/ids"), RequestId: &serverpb.RequestID{
				ClientId: rand.Uint64() | 1, Sequence: 1 + rand.Uint64()>>1, Repeat: rand.IntN(2) == 0,
			}})
			return err
		})
	}},
	{"odd-request-ids", data, func(ctx context.Context, e *Enemy) {
		odd := []uint64{0, 1, 2, 1 << 20, 1 << 40, math.MaxUint64 - 1, math.MaxUint64}
		pick := func() uint64 { return odd[rand.IntN(len(odd))] }
		e.calls(ctx, 32, func(ctx context.Context, kv serverpb.DKVClient) error {
			id := &serverpb.RequestID{ClientId: pick(), Sequence: pick(), Acked: pick(), Repeat: rand.IntN(2) == 0}
			var err error
			if rand.IntN(2) == 0 {
				_, err = kv.Increment(ctx, &serverpb.IncrementRequest{Key: []byte("hostile/counter"), Delta: math.MaxInt64, RequestId: id, ExpireTS: pick()})
			} else {
				_, err = kv.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("hostile/cas"), NewValue: junk(10), RequestId: id, ExpireTS: pick()})
			}
			return err
		})
	}},
	{"far-indexes", data, func(ctx context.Context, e *Enemy) {
		indexes := []uint64{math.MaxUint64, 1 << 62, 1 << 30, 1_000_000}
		e.calls(ctx, 2000, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.Get(ctx, &serverpb.GetRequest{Key: Large, MinIndex: indexes[rand.IntN(len(indexes))]})
			return err
		})
	}},
	{"near-indexes", data, func(ctx context.Context, e *Enemy) {
		var last atomic.Uint64
		e.calls(ctx, 3000, func(ctx context.Context, kv serverpb.DKVClient) error {
			answer, err := kv.Get(ctx, &serverpb.GetRequest{Key: []byte("k"), MinIndex: last.Load() + 1000})
			if err != nil {
				answer, _ = kv.Get(ctx, &serverpb.GetRequest{Key: []byte("k")})
			}
			last.Store(max(last.Load(), answer.GetIndex()))
			return err
		})
	}},
	{"tiny-ages", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 500, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.Get(ctx, &serverpb.GetRequest{Key: []byte("k"), MaxAge: 1})
			return err
		})
	}},
	{"short-deadlines", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 32, func(ctx context.Context, kv serverpb.DKVClient) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			s, err := kv.Iterate(ctx, &serverpb.IterateRequest{ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE})
			for err == nil {
				_, err = s.Recv()
			}
			return err
		})
	}},
	{"large-multigets", data, func(ctx context.Context, e *Enemy) {
		keys := make([][]byte, 100_000)
		for i := range keys {
			keys[i] = Large
		}
		e.calls(ctx, 16, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: keys[:100+rand.IntN(len(keys)-100)]})
			return err
		})
	}},
	{"endless-multigets", data, func(ctx context.Context, e *Enemy) {
		keys := make([][]byte, 4_000_000)
		for i := range keys {
			keys[i] = []byte("x")
		}
		e.calls(ctx, 4, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.MultiGet(ctx, &serverpb.MultiGetRequest{Keys: keys})
			return err
		})
	}},
	{"compare-and-set-storm", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 256, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.CompareAndSet(ctx, &serverpb.CompareAndSetRequest{Key: []byte("hostile/cas"), OldValue: junk(1), NewValue: junk(1)})
			return err
		})
	}},
	{"oversized", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 8, func(ctx context.Context, kv serverpb.DKVClient) error {
			var err error
			switch rand.IntN(5) {
			case 0:
				_, err = kv.Put(ctx, &serverpb.PutRequest{Key: junk(10 << 20)})
			case 1:
				_, err = kv.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: make([]byte, 12<<20)})
			case 2:
				_, err = kv.Put(ctx, &serverpb.PutRequest{Key: []byte("k"), Value: make([]byte, 100<<20)})
			case 3:
				_, err = kv.Iterate(ctx, &serverpb.IterateRequest{KeyPrefix: junk(10 << 20)})
			default:
				_, err = kv.Get(ctx, &serverpb.GetRequest{Key: junk(15 << 20)}, grpc.UseCompressor("identity"))
			}
			return err
		})
	}},
	{"history-from-the-start", data, func(ctx context.Context, e *Enemy) {
		replication := serverpb.NewDKVReplicationClient(e.client(ctx))
		e.calls(ctx, 16, func(ctx context.Context, _ serverpb.DKVClient) error {
			_, err := replication.GetChanges(ctx, &serverpb.GetChangesRequest{FromChangeNumber: 1, MaxNumberOfChanges: math.MaxUint32})
			return err
		})
	}},
	{"followers-that-are-none", data, func(ctx context.Context, e *Enemy) {
		replication := serverpb.NewDKVReplicationClient(e.client(ctx))
		e.calls(ctx, 16, func(ctx context.Context, _ serverpb.DKVClient) error {
			r := &serverpb.Replica{Zone: "z", Hostname: fmt.Sprintf("%s-%d", junkName(), rand.Uint64()), Port: 1}
			_, err := replication.GetChanges(ctx, &serverpb.GetChangesRequest{FromChangeNumber: 1, MaxNumberOfChanges: 1, Replica: r})
			return err
		})
	}},
}
