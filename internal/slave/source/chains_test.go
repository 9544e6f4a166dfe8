package source

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
)

// row is a node as discovery tells of it.
func row(addr, dc string, status serverpb.RegionStatus, slaves uint32) *serverpb.RegionInfo {
	return &serverpb.RegionInfo{Database: "db", VBucket: "default", NodeAddress: addr, DcID: dc, Status: status, Slaves: slaves}
}

// slaveRow is a slave as discovery tells of it.
func slaveRow(addr, dc, master string) *serverpb.RegionInfo {
	out := row(addr, dc, serverpb.RegionStatus_ACTIVE_SLAVE, 0)
	if master != "" {
		out.MasterHost = proto.String(master)
	}
	return out
}

// Only slaves whose chain ends at a master, and not at the asker, are candidates.
func TestChainsEndAtAMaster(t *testing.T) {
	rows := NewChainedRows("db", "west", "self:1")
	rows.Set([]*serverpb.RegionInfo{
		row("m:1", "east", leader, 0),
		slaveRow("good:1", "west", "m:1"),
		slaveRow("next:1", "west", "good:1"),
		slaveRow("mine:1", "west", "self:1"),
		slaveRow("behind-mine:1", "west", "mine:1"),
		slaveRow("circle:1", "west", "circle2:1"),
		slaveRow("circle2:1", "west", "circle:1"),
		slaveRow("searching:1", "west", ""),
		slaveRow("elsewhere:1", "east", "m:1"),
		slaveRow("self:1", "west", "m:1"),
	}, true)
	var got []string
	for _, s := range rows.Candidates("default") {
		got = append(got, s.Address)
	}
	if want := []string{"m:1", "good:1", "next:1"}; !slices.Equal(got, want) {
		t.Errorf("candidates %v, want %v", got, want)
	}
	plain := NewRows("db")
	plain.Set([]*serverpb.RegionInfo{row("m:1", "east", leader, 0), slaveRow("good:1", "west", "m:1")}, true)
	if got := plain.Candidates("default"); len(got) != 1 {
		t.Errorf("candidates without chains %v", got)
	}
}
