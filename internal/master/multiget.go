package master

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// pairOverhead is about what a pair adds to a message beyond its bytes.
const pairOverhead = 24

// MultiGet implements DKV.
func (s *KV) MultiGet(ctx context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	opts, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	keys := r.GetKeys()
	for i, key := range keys {
		if err := s.limits.checkKey(key); err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(keys), err)
		}
	}
	if err := checkCluster(s.keyspace.First(keys), r.GetCluster()); err != nil {
		return nil, err
	}
	v, one := s.home(keys)
	if !one {
		return s.multiGetSplit(ctx, keys, r.GetReadConsistency(), opts)
	}
	return read(ctx, s.router, v, multiGetCall, r, opts, func(ctx context.Context) (*serverpb.MultiGetResponse, error) {
		resp := &serverpb.MultiGetResponse{Status: ok()}
		room := budget{limit: s.limits.Response}
		info, err := readKeys(ctx, v, keys, opts, func(pairs []kv.Pair) (err error) {
			resp.KeyValues, err = room.append(resp.KeyValues, pairs)
			return err
		})
		if err != nil {
			return nil, err
		}
		resp.Index, resp.Age = info.Index, ageMillis(info)
		return resp, nil
	})
}

// budget is the room that a response has for pairs, in bytes.
type budget struct{ size, limit int }

// append adds pairs to those of a message.
func (b *budget) append(to []*serverpb.KVPair, pairs []kv.Pair) ([]*serverpb.KVPair, error) {
	out := make([]serverpb.KVPair, len(pairs)) // one allocation for all
	for i, p := range pairs {
		out[i].Key, out[i].Value, out[i].ExpireTS = p.Key, p.Value, p.ExpireTS
		to = append(to, &out[i])
	}
	return to, b.take(to[len(to)-len(pairs):])
}

// take checks that pairs fit in what is left.
func (b *budget) take(pairs []*serverpb.KVPair) error {
	for _, p := range pairs {
		b.size += len(p.GetKey()) + len(p.GetValue()) + pairOverhead
	}
	if b.size > b.limit {
		return kv.Errorf(kv.Exhausted, "the pairs exceed %d bytes, the limit of a response (max-message-size); ask for fewer keys", b.limit)
	}
	return nil
}
