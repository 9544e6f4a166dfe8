package attack

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

var storage = []Attack{
	{"expiry-storm", data, func(ctx context.Context, e *Enemy) {
		second := uint64(time.Now().Add(6 * time.Second).Unix()) // the same one for all
		e.calls(ctx, 4, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: pairs(5000, func() []byte {
				return append([]byte("hostile/expires/"), junk(8)...)
			}, second), MaySplit: true})
			if err == nil {
				e.count("keys that expire", 5000)
			}
			return err
		})
	}},
	{"tiny-pairs", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 4, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: pairs(400_000, func() []byte {
				return append([]byte("hostile"), junk(3)...)
			}, 0), MaySplit: true})
			return err
		})
	}},
	{"one-key-many-times", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 4, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.MultiPut(ctx, &serverpb.MultiPutRequest{PutRequest: pairs(100_000, func() []byte { return []byte("hostile/one") }, 0)})
			return err
		})
	}},
	{"hostile-keys", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 32, func(ctx context.Context, kv serverpb.DKVClient) error {
			key := oddKey()
			var err error
			switch rand.IntN(6) {
			case 0:
				_, err = kv.Delete(ctx, &serverpb.DeleteRequest{Key: key})
			case 1:
				_, err = kv.Get(ctx, &serverpb.GetRequest{Key: key, ReadConsistency: serverpb.ReadConsistency(rand.IntN(3) - 1)})
			case 2:
				_, err = kv.Increment(ctx, &serverpb.IncrementRequest{Key: key, Delta: math.MinInt64})
			case 3:
				s, failed := kv.Iterate(ctx, &serverpb.IterateRequest{KeyPrefix: key, StartKey: oddKey(), Limit: 3, Reverse: rand.IntN(2) == 0})
				if err = failed; err == nil {
					_, err = s.Recv()
				}
			default:
				_, err = kv.Put(ctx, &serverpb.PutRequest{Key: key, Value: junk(rand.IntN(9)), ExpireTS: rand.Uint64N(3) * math.MaxUint64 / 2})
			}
			return err
		})
	}},
	{"large-values", data, func(ctx context.Context, e *Enemy) {
		value := junk(4 << 20)
		e.calls(ctx, 4, func(ctx context.Context, kv serverpb.DKVClient) error {
			key := []byte{'h', 'o', 's', 't', 'i', 'l', 'e', '/', byte(rand.IntN(8))}
			_, err := kv.Put(ctx, &serverpb.PutRequest{Key: key, Value: value})
			if rand.IntN(3) == 0 {
				_, err = kv.Delete(ctx, &serverpb.DeleteRequest{Key: key})
			}
			return err
		})
	}},
	{"write-storm", data, func(ctx context.Context, e *Enemy) {
		e.calls(ctx, 512, func(ctx context.Context, kv serverpb.DKVClient) error {
			_, err := kv.Put(ctx, &serverpb.PutRequest{Key: append([]byte("hostile/"), junk(3)...), Value: junk(1 << 10)})
			return err
		})
	}},
}

func pairs(n int, key func() []byte, expires uint64) []*serverpb.PutRequest {
	out := make([]*serverpb.PutRequest, n)
	for i := range out {
		out[i] = &serverpb.PutRequest{Key: key(), ExpireTS: expires}
	}
	return out
}

// oddKey returns a key that is refused, or looks like one that storage uses itself. None
// begins with "honest/", as those of honest clients do.
func oddKey() []byte {
	switch rand.IntN(7) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{0xff}, 1+rand.IntN(1024))
	case 2:
		return make([]byte, 1+rand.IntN(1024))
	case 3:
		return append([]byte{byte(rand.Uint32())}, "!badger!"...)
	case 4:
		return append([]byte{byte(rand.IntN(8))}, junk(rand.IntN(20))...)
	case 5:
		return bytes.Repeat([]byte{'k'}, 1020+rand.IntN(10))
	default:
		return []byte("\xff\xfe\x00invalid utf-8 \xc3\x28\n\x1b[31m")
	}
}
