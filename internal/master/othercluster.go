package master

import (
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// checkCluster refuses a request for another cluster than the vBucket's: a client that
// was led to this node by its address, or by a registry, does not mean it. want is the
// xxHash64 of the cluster's id; 0 is any.
func checkCluster(v route.VBucket, want uint64) error {
	if want == 0 {
		return nil
	}
	switch id := v.Cluster(); {
	case id == "":
		return route.WithOutcome(kv.Errorf(kv.Unavailable, "this node does not know yet which cluster vBucket %s is of; retry later", v.Name))
	case kv.ClusterTag(id) != want:
		return route.WithOutcome(kv.Errorf(kv.OtherCluster, "vBucket %s of this node is of cluster %s, which is not the one that the client is bound to", v.Name, id))
	default:
		return nil
	}
}
