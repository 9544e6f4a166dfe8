package discovery

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/peerpb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestRecordsAtAnyNode makes a record at a node that does not own the log, and finds it
// again under another owner, and after its database was released.
func TestRecordsAtAnyNode(t *testing.T) {
	l, sites := newSites(t)
	record := &peerpb.Record{Database: "db", Deployment: "masters", LeaseMillis: 10_000}
	for i, s := range sites {
		got, err := s.witness.ChangeRecord(t.Context(), &peerpb.ChangeRecordRequest{Record: record})
		if err != nil || got.GetRecord().GetVersion() != 1 {
			t.Fatalf("node %d: %v, %v", i, got, err)
		}
	}
	sites[1].update(t, region("db/0/m:1/dc1", leader, cluster("ours")))
	released, err := sites[2].DKVDiscoveryClient.ReleaseDatabase(t.Context(), &serverpb.ReleaseDatabaseRequest{Database: "db"})
	if err != nil || !strings.Contains(released.GetMessage(), "era 0") {
		t.Errorf("%v, %v", released, err)
	}
	l.elect(3)
	for i, s := range sites {
		testkit.Eventually(t, "the record under another owner", func() bool {
			got, err := s.witness.Renew(t.Context(), &peerpb.RenewRequest{Database: "db", Deployment: "masters"})
			return err == nil && got.GetGranted()
		})
		got, err := s.witness.GetRecord(t.Context(), &peerpb.GetRecordRequest{Database: "db"})
		if err != nil || got.GetRecord().GetDeployment() != "masters" || got.GetGrantedMillis() < 10_000 {
			t.Errorf("node %d: %v, %v", i, got, err)
		}
		claimed, err := s.witness.Claim(t.Context(), &peerpb.ClaimRequest{Database: "db", Version: 1, Promotion: "p", History: "1-h", Disks: []string{"d"}})
		if err != nil || claimed.GetGiven() || claimed.GetReason() == "" {
			t.Errorf("node %d: %v, %v", i, claimed, err)
		}
	}
}
