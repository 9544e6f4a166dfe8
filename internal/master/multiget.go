package master

import (
	"context"
	"fmt"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// multiGetChunk is how many values a MultiGet reads before it looks at their
// size: a request of a few kilobytes may ask for more than the memory holds.
const multiGetChunk = 64

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
	v, err := s.keyspace.Only()
	if err != nil {
		return nil, err
	}
	ctx, cancel := answerable(ctx, opts)
	defer cancel()
	if len(keys) > multiGetChunk {
		return s.multiGetChunks(ctx, v, keys, opts)
	}
	pairs, info, err := v.MultiGet(ctx, keys, opts)
	if err != nil {
		return nil, err
	}
	resp := s.newPairs(info)
	if err := resp.add(pairs); err != nil {
		return nil, err
	}
	return resp.msg, nil
}

// multiGetChunks answers a large MultiGet from one view, chunk by chunk.
func (s *KV) multiGetChunks(ctx context.Context, v VBucket, keys [][]byte, opts kv.ReadOptions) (*serverpb.MultiGetResponse, error) {
	view, info, err := v.View(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	resp := s.newPairs(info)
	for len(keys) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, replica.ReadError(err)
		}
		chunk := keys[:min(len(keys), multiGetChunk)]
		keys = keys[len(chunk):]
		pairs, err := view.MultiGet(chunk)
		if err != nil {
			return nil, replica.ReadError(err)
		}
		if err := resp.add(pairs); err != nil {
			return nil, err
		}
	}
	return resp.msg, nil
}

// pairsResponse is a MultiGetResponse that does not grow beyond a limit.
type pairsResponse struct {
	msg         *serverpb.MultiGetResponse
	size, limit int
}

func (s *KV) newPairs(info kv.ReadInfo) *pairsResponse {
	return &pairsResponse{
		msg:   &serverpb.MultiGetResponse{Status: ok(), Index: info.Index, Age: ageMillis(info)},
		limit: s.limits.Response,
	}
}

func (r *pairsResponse) add(pairs []kv.Pair) error {
	out := make([]serverpb.KVPair, len(pairs)) // one allocation for all
	for i, p := range pairs {
		r.size += len(p.Key) + len(p.Value) + pairOverhead
		out[i].Key, out[i].Value, out[i].ExpireTS = p.Key, p.Value, p.ExpireTS
		r.msg.KeyValues = append(r.msg.KeyValues, &out[i])
	}
	if r.size > r.limit {
		return kv.Errorf(kv.Exhausted, "the pairs exceed %d bytes, the limit of a response (max-message-size); ask for fewer keys", r.limit)
	}
	return nil
}
