package rows

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/master/maintenance"
	"github.com/dkvdb/dkv/internal/replica"
)

// leading is the condition of a node with two vBuckets, of which it leads the first.
func leading() condition.Node {
	first := condition.Fitness{Readable: true, Served: true, Part: serverpb.RegionStatus_LEADER}
	second := condition.Fitness{Readable: true, Served: true, Part: serverpb.RegionStatus_SECONDARY_FOLLOWER}
	status := replica.Status{Term: 5, Applied: 9, Identity: fsm.Identity{Cluster: "c", History: "h"}}
	return condition.Node{
		Readiness: condition.Readiness{Accepts: true, Fitness: []condition.Fitness{first, second}},
		VBuckets:  []condition.VBucket{{Fitness: first, Name: "0", Replica: status}, {Fitness: second, Name: "1", Replica: status}},
	}
}

func source(n condition.Node, urls ...string) *Source {
	return &Source{
		Info:      &maintenance.NodeInfo{ID: "2", Name: "n2", DC: "dc1", Database: "db", Address: "10.0.0.2:8080", HTTPAddress: "10.0.0.2:8081"},
		Condition: func() condition.Node { return n },
		Followers: func(vBucket string) int { return len("slave of ") + int(vBucket[0]-'0') },
		URLs:      func() []string { return urls },
	}
}

func TestRowsOfANode(t *testing.T) {
	rows := source(leading(), "http://10.0.0.1:9020", "http://10.0.0.2:9020").Rows()
	urls := "http://10.0.0.1:9020,http://10.0.0.2:9020"
	want := &serverpb.RegionInfo{
		DcID: "dc1", NodeAddress: "10.0.0.2:8080", Database: "db", VBucket: "0", Status: serverpb.RegionStatus_LEADER,
		NexusClusterUrl: &urls, HttpAddress: "10.0.0.2:8081", NodeName: "n2", NodeID: "2",
		ClusterID: "c", HistoryID: "h", Term: 5, ChangeNumber: 9, Slaves: 9, VBuckets: 2,
	}
	if len(rows) != 2 || !proto.Equal(rows[0], want) {
		t.Errorf("the rows are %v; want the first to be %v", rows, want)
	}
	if r := rows[1]; r.GetVBucket() != "1" || r.GetStatus() != serverpb.RegionStatus_SECONDARY_FOLLOWER || r.GetSlaves() != 10 {
		t.Errorf("the second row is %v", r)
	}
}

// TestRowsOfANodeThatDoesNotAccept: its rows are there, and say that it has no part.
func TestRowsOfANodeThatDoesNotAccept(t *testing.T) {
	n := leading()
	n.Accepts = false
	for _, r := range source(n).Rows() {
		if r.GetStatus() != serverpb.RegionStatus_INACTIVE || r.NexusClusterUrl != nil || r.MasterHost != nil {
			t.Errorf("%v", r)
		}
	}
}

func TestRowOfASlaveNamesItsMaster(t *testing.T) {
	n := leading()
	n.VBuckets[0].Master = "10.0.0.1:8080"
	row, err := Service{Source: source(n)}.GetStatus(t.Context(), nil)
	if err != nil || row.GetMasterHost() != "10.0.0.1:8080" {
		t.Errorf("%v, %v", row, err)
	}
}

// TestUnlistedNode: a node that the registry is not told of is rejected by none.
func TestUnlistedNode(t *testing.T) {
	var c Client = unlisted{}
	c.Announce()
	if err := errors.Join(c.Run(t.Context()), c.Rejection()); err != nil {
		t.Error(err)
	}
}

// TestStatusOfANodeIsOneRow: a node of many vBuckets does not make the rows of all of them
// to return one.
func TestStatusOfANodeIsOneRow(t *testing.T) {
	s := source(leading())
	made := 0
	s.Followers = func(string) int { made++; return 0 }
	row, err := Service{Source: s}.GetStatus(t.Context(), nil)
	if err != nil || row.GetVBucket() != "0" || made != 1 {
		t.Errorf("%v, %v: %d rows were made", row, err, made)
	}
}
