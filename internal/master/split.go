package master

import (
	"bytes"
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// home returns the vBucket that all keys belong to, and whether there is one. Without keys it
// returns the first vBucket.
func (s *KV) home(keys [][]byte) (route.VBucket, bool) {
	if len(s.keyspace.All()) == 1 || len(keys) == 0 {
		return s.keyspace.All()[0], true
	}
	first := s.keyspace.Of(keys[0])
	for _, key := range keys[1:] {
		if s.keyspace.Of(key).Name != first.Name {
			return route.VBucket{}, false
		}
	}
	return first, true
}

// part is what one source reads for a MultiGet: a vBucket on this node, or another node for all
// vBuckets that it owns.
type part struct {
	route.Leg
	keys  [][]byte
	pairs []*serverpb.KVPair // of keys, in their order
	age   uint64
	done  bool
	err   error
}

// multiGetSplit answers from several vBuckets, each from one state.
func (s *KV) multiGetSplit(ctx context.Context, keys [][]byte, level serverpb.ReadConsistency, opts kv.ReadOptions) (resp *serverpb.MultiGetResponse, err error) {
	vBuckets := s.spread(keys)
	if err := checkIndex(opts, vBuckets); err != nil {
		return nil, err
	}
	err = readLegs(ctx, s.router, vBuckets, multiGetCall, opts, func(ctx context.Context, legs []route.Leg) (done bool, err error) {
		resp, done, err = s.gather(ctx, keys, level, opts, legs)
		return done, err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// spread returns the vBuckets of keys, each once.
func (s *KV) spread(keys [][]byte) []route.VBucket {
	var out []route.VBucket
	seen := make(map[string]bool)
	for _, key := range keys {
		if v := s.keyspace.Of(key); !seen[v.Name] {
			seen[v.Name] = true
			out = append(out, v)
		}
	}
	return out
}

// gather reads all legs at the same time, and returns their pairs in the order of the keys.
// done is that of route.Local and route.Call.Remote.
func (s *KV) gather(ctx context.Context, keys [][]byte, level serverpb.ReadConsistency, opts kv.ReadOptions, legs []route.Leg) (_ *serverpb.MultiGetResponse, done bool, err error) {
	parts, of := s.parts(keys, legs)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	finished := make(chan *part, len(parts))
	away := 0
	for _, p := range parts {
		if !p.Owner.Self {
			away++
			go func() {
				s.fetch(ctx, p, level, opts)
				finished <- p
			}()
		}
	}
	room := budget{limit: s.limits.Response}
	for _, p := range parts {
		if p.Owner.Self && err == nil {
			done, err = s.read(ctx, p, opts, &room)
		}
	}
	for ; away > 0; away-- {
		if err != nil {
			cancel()
		}
		switch p := <-finished; {
		case p.err == nil && err == nil:
			done, err = true, room.take(p.pairs)
		case p.err != nil && (err == nil || p.done && !done): // a final error counts most
			done, err = p.done, p.err
		}
	}
	if err != nil {
		return nil, done, err
	}
	resp := &serverpb.MultiGetResponse{Status: &serverpb.Status{}}
	for _, p := range parts {
		resp.Age = max(resp.Age, p.age)
	}
	resp.KeyValues = inOrder(keys, parts, of)
	return resp, true, nil
}

// parts divides the keys by source, and returns for each key its part.
func (s *KV) parts(keys [][]byte, legs []route.Leg) (parts []*part, of []*part) {
	byName := make(map[string]*part)
	for _, l := range legs {
		if !l.Owner.Self {
			p := &part{Leg: l}
			parts = append(parts, p)
			for _, v := range l.VBuckets {
				byName[v.Name] = p
			}
			continue
		}
		for _, v := range l.VBuckets {
			p := &part{Leg: route.Here(v)}
			parts = append(parts, p)
			byName[v.Name] = p
		}
	}
	of = make([]*part, len(keys))
	for i, key := range keys {
		of[i] = byName[s.keyspace.Of(key).Name]
		of[i].keys = append(of[i].keys, key)
	}
	return parts, of
}

// read reads a part on this node.
func (s *KV) read(ctx context.Context, p *part, opts kv.ReadOptions, room *budget) (done bool, _ error) {
	info, err := readKeys(ctx, p.VBuckets[0], p.keys, opts, func(found []kv.Pair) (err error) {
		p.pairs, err = room.append(p.pairs, found)
		return err
	})
	p.age = ageMillis(info)
	return route.Local(err)
}

// fetch reads a part from another node.
func (s *KV) fetch(ctx context.Context, p *part, level serverpb.ReadConsistency, opts kv.ReadOptions) {
	resp := new(serverpb.MultiGetResponse)
	p.done, p.err = multiGetCall.Remote(s.router.Ask(ctx, p.Leg, multiGetCall, &serverpb.MultiGetRequest{
		Keys:            p.keys,
		ReadConsistency: level,
		MaxAge:          uint64(opts.MaxAge.Milliseconds()),
	}, resp))
	p.pairs, p.age = resp.GetKeyValues(), resp.GetAge()
}

// inOrder merges the pairs of all parts in the order of the keys. Each part has its pairs in that
// order already, without the keys that were not found.
func inOrder(keys [][]byte, parts, of []*part) []*serverpb.KVPair {
	n := 0
	for _, p := range parts {
		n += len(p.pairs)
	}
	out := make([]*serverpb.KVPair, 0, n)
	for i, key := range keys {
		if p := of[i]; len(p.pairs) > 0 && bytes.Equal(p.pairs[0].GetKey(), key) {
			out = append(out, p.pairs[0])
			p.pairs = p.pairs[1:]
		}
	}
	return out
}
