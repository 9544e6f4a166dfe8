package master

import (
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/route"
)

// checkCluster rejects a request that is meant for another cluster than the vBucket's: an
// address or a registry may have led its client to the wrong node. want is a kv.ClusterTag; 0
// accepts any cluster.
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
