package master

import (
	"github.com/cespare/xxhash/v2"

	"github.com/dkvdb/dkv/internal/kv"
)

// checkCluster refuses a request for another cluster than the vBucket's: a client that
// was led to this node by its address, or by a registry, does not mean it. want is the
// xxHash64 of the cluster's id; 0 is any.
func checkCluster(v VBucket, want uint64) error {
	if want == 0 {
		return nil
	}
	switch id := v.Cluster(); {
	case id == "":
		return withOutcome(kv.Errorf(kv.Unavailable, "this node does not know yet which cluster vBucket %s is of; retry later", v.Name))
	case xxhash.Sum64String(id) != want:
		return withOutcome(kv.Errorf(kv.OtherCluster, "vBucket %s of this node is of cluster %s, which is not the one that the client is bound to", v.Name, id))
	default:
		return nil
	}
}

// first is the vBucket that stands for a request about several.
func (k *Keyspace) first(keys [][]byte) VBucket {
	if len(keys) == 0 {
		return k.vBuckets[0]
	}
	return k.Of(keys[0])
}
