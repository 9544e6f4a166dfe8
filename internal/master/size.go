package master

import (
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/kv"
)

// pairOverhead estimates what a pair adds to a message beyond its bytes.
const pairOverhead = 24

// pairSize estimates what a pair takes in a message.
func pairSize(p kv.Pair) int { return len(p.Key) + len(p.Value) + pairOverhead }

// budget bounds the pairs of a response, in bytes.
type budget struct{ size, limit int }

// append adds pairs to a message, or returns an error if they exceed the budget.
func (b *budget) append(to []*serverpb.KVPair, pairs []kv.Pair) ([]*serverpb.KVPair, error) {
	out := make([]serverpb.KVPair, len(pairs)) // one allocation for all
	for i, p := range pairs {
		out[i].Key, out[i].Value, out[i].ExpireTS = p.Key, p.Value, p.ExpireTS
		to = append(to, &out[i])
	}
	return to, b.take(to[len(to)-len(pairs):])
}

// take takes the size of pairs from the budget, or returns an error if they exceed it.
func (b *budget) take(pairs []*serverpb.KVPair) error {
	for _, p := range pairs {
		b.size += len(p.GetKey()) + len(p.GetValue()) + pairOverhead
	}
	if b.size > b.limit {
		return kv.Errorf(kv.Exhausted, "the pairs exceed %d bytes, the limit of a response (max-message-size); ask for fewer keys", b.limit)
	}
	return nil
}
