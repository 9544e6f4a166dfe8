package master

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// MultiGet implements DKV.
func (s *KV) MultiGet(ctx context.Context, r *serverpb.MultiGetRequest) (*serverpb.MultiGetResponse, error) {
	opts, err := readOptions(r)
	if err != nil {
		return nil, err
	}
	keys := r.GetKeys()
	for i, key := range keys {
		if err := checkRead(key); err != nil {
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
		resp := &serverpb.MultiGetResponse{Status: &serverpb.Status{}}
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
