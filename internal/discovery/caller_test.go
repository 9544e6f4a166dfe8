package discovery

import (
	"testing"
	"time"

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

// TestSlaveCannotOutdateAMaster: a slave that says that its row at a master's address comes
// from the future does not keep the master from registering there.
func TestSlaveCannotOutdateAMaster(t *testing.T) {
	_, sites := newSites(t)
	send := func(id *auth.Identity, stamp uint64, row *serverpb.RegionInfo) {
		t.Helper()
		if _, err := sites[0].Registry.UpdateStatus(auth.NewContext(t.Context(), id), &serverpb.UpdateStatusRequest{RegionInfo: row, Timestamp: stamp}); err != nil {
			t.Fatal(err)
		}
	}
	now := uint64(time.Now().Unix())
	send(&auth.Identity{Kind: auth.Named, Name: "slave"}, now+1_000_000, region("db/0/m:1/dc1", slave))
	send(&auth.Identity{Kind: auth.OfNode}, now, region("db/0/m:1/dc1", leader, term(1)))
	res, err := sites[0].Registry.GetClusterInfo(t.Context(), new(serverpb.GetClusterInfoRequest))
	if err != nil || len(res.GetRegionInfos()) != 1 || res.GetRegionInfos()[0].GetStatus() != leader {
		t.Errorf("%v, %v", res, err)
	}
}
