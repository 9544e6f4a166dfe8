package route

import (
	"context"
	"fmt"

	"google.golang.org/grpc/metadata"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Keyspace is all vBuckets of a database. This node holds a replica of each.
type Keyspace struct {
	vBuckets []VBucket
}

// VBucket is one part of a keyspace: its name and this node's replica of it.
type VBucket struct {
	Name string
	replica.Replica
}

// NewKeyspace makes a keyspace of at least one vBucket, in hash order.
func NewKeyspace(vBuckets ...VBucket) *Keyspace { return &Keyspace{vBuckets: vBuckets} }

// Of returns the vBucket that a key belongs to.
func (k *Keyspace) Of(key []byte) VBucket { return k.vBuckets[kv.VBucketOf(key, len(k.vBuckets))] }

// First returns the vBucket of the first key. Without keys it returns the first vBucket.
func (k *Keyspace) First(keys [][]byte) VBucket {
	if len(keys) == 0 {
		return k.vBuckets[0]
	}
	return k.Of(keys[0])
}

// Named returns a vBucket by name. An empty name means the only one.
func (k *Keyspace) Named(name string) (VBucket, error) {
	if name == "" && len(k.vBuckets) == 1 {
		return k.vBuckets[0], nil
	}
	for _, v := range k.vBuckets {
		if v.Name == name {
			return v, nil
		}
	}
	if name == "" {
		return VBucket{}, kv.Errorf(kv.Invalid, "this node has %d vBuckets; say which one", len(k.vBuckets))
	}
	return VBucket{}, kv.Errorf(kv.NotFound, "this node has no vBucket %.64q; it has %s", name, k.names())
}

// Only returns the single vBucket of a keyspace that is not split.
func (k *Keyspace) Only() (VBucket, error) { return k.Named("") }

// All returns the vBuckets in hash order.
func (k *Keyspace) All() []VBucket { return k.vBuckets }

// Requested returns the vBuckets that a request is about: those that its metadata names if
// another node forwarded it, and otherwise all.
func (k *Keyspace) Requested(ctx context.Context) ([]VBucket, error) {
	if len(k.vBuckets) == 1 || !Forwarded.In(ctx) {
		return k.vBuckets, nil
	}
	names := metadata.ValueFromIncomingContext(ctx, vBucketKey)
	if len(names) == 0 {
		return k.vBuckets, nil
	}
	if len(names) > len(k.vBuckets) { // one would be read again and again
		return nil, kv.Errorf(kv.Invalid, "the request names %d vBuckets, and there are %d", len(names), len(k.vBuckets))
	}
	out := make([]VBucket, len(names))
	for i, name := range names {
		v, err := k.Named(name)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (k *Keyspace) names() string {
	names := make([]string, len(k.vBuckets))
	for i, v := range k.vBuckets {
		names[i] = v.Name
	}
	return fmt.Sprint(names)
}
