package discovery

import (
	"context"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// ofNode reports whether a heartbeat comes from a node of a cluster, or callers are not
// distinguished. Others register slaves only, which the server has checked.
func ofNode(ctx context.Context) bool {
	id := auth.FromContext(ctx)
	return id == nil || id.Kind == auth.OfNode || id.Kind == auth.Open
}

// replacesMaster returns an error if a row would take the place of a master that is alive:
// the address of a row is what its sender says, so a slave could put itself in the place of
// any node.
func (t *table) replacesMaster(rows []*serverpb.RegionInfo) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, in := range rows {
		if r := t.rows[keyOf(in)]; r != nil && r.masters() {
			return kv.Errorf(kv.Denied, "node %s is registered as a master of vBucket %q of database %q, and only a node replaces it: "+
				"give the slave another address, or a certificate with tls-node-name", in.GetNodeAddress(), in.GetVBucket(), in.GetDatabase())
		}
	}
	return nil
}
