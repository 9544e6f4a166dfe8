package discovery

import (
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/auth"
	"github.com/dkvdb/dkv/internal/kv"
)

// TestSlaveCannotReplaceAMaster: a slave that sends a master's address does not take its
// row away; the master itself, and a slave in its own place, are heard.
func TestSlaveCannotReplaceAMaster(t *testing.T) {
	_, sites := newSites(t)
	sites[0].update(t, region("db/0/m:1/dc1", leader, term(1)))
	send := func(id *auth.Identity, row *serverpb.RegionInfo) error {
		_, err := sites[0].Registry.UpdateStatus(auth.NewContext(t.Context(), id), &serverpb.UpdateStatusRequest{RegionInfo: row})
		return err
	}
	hostile := &auth.Identity{Kind: auth.Named, Name: "slave"}
	for _, status := range []serverpb.RegionStatus{slave, inactive} {
		if err := send(hostile, region("db/0/m:1/dc1", status)); kv.KindOf(err) != kv.Denied {
			t.Errorf("%v in the place of a master: %v", status, err)
		}
	}
	if err := send(hostile, region("db/0/s:1/dc1", slave)); err != nil {
		t.Error(err)
	}
	if err := send(&auth.Identity{Kind: auth.OfNode}, region("db/0/m:1/dc1", secondary, term(2))); err != nil {
		t.Error(err)
	}
	if err := send(nil, region("db/0/m:1/dc1", leader, term(3))); err != nil {
		t.Error(err)
	}
}
