// Package master holds the gRPC services of a node that owns a log: reads and
// writes, the change stream, backups, and what an operator asks of it. The
// services check requests and translate; everything they do happens in
// replicas.
package master

import (
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Keyspace is the set of vBuckets that a database is cut into, all of which
// this node holds a replica of.
type Keyspace struct {
	vBuckets []VBucket
}

// VBucket is one part of a keyspace.
type VBucket struct {
	Name string
	replica.Replica
}

// NewKeyspace makes a keyspace of at least one vBucket, in hash order.
func NewKeyspace(vBuckets ...VBucket) *Keyspace { return &Keyspace{vBuckets: vBuckets} }

// Of returns the vBucket that a key belongs to: (xxhash64(key) & 0xFFFF) mod N,
// as sharding clients compute it.
func (k *Keyspace) Of(key []byte) VBucket {
	if len(k.vBuckets) == 1 {
		return k.vBuckets[0]
	}
	return k.vBuckets[(xxhash.Sum64(key)&0xFFFF)%uint64(len(k.vBuckets))]
}

// Named returns a vBucket by name; an empty name means the only one.
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

// Only returns the single vBucket of a keyspace that is not cut.
func (k *Keyspace) Only() (VBucket, error) { return k.Named("") }

// All returns the vBuckets in hash order.
func (k *Keyspace) All() []VBucket { return k.vBuckets }

func (k *Keyspace) names() string {
	names := make([]string, len(k.vBuckets))
	for i, v := range k.vBuckets {
		names[i] = v.Name
	}
	return fmt.Sprint(names)
}
