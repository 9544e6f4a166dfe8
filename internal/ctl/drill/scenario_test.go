package drill

import (
	"errors"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/observe"
)

// clusterLedBy is a cluster of three masters.
func clusterLedBy(leader string) *observe.Cluster {
	c := new(observe.Cluster)
	for _, name := range []string{"n1", "n2", "n3"} {
		c.Nodes = append(c.Nodes, &observe.Node{
			Address: name + ":8080", Member: &modelspb.NodeInfo{NodeName: name},
			Status: &serverpb.NodeStatusResponse{NodeName: name, Role: "master", VBuckets: []*serverpb.VBucketStatus{{IsLeader: name == leader}}},
		})
	}
	return c
}

// TestFaultIsForTheNodeThatWasMeant: leadership may move between the choice and the fault, and a
// promise about a leader says nothing of another node.
func TestFaultIsForTheNodeThatWasMeant(t *testing.T) {
	for _, name := range []string{"leader-stop", "partition", "slow-disk", "follower-stop"} {
		s := ScenarioOf(name)
		before := clusterLedBy("n1")
		picked, err := s.Pick(before)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.Again(clusterLedBy("n1"), picked); err != nil || n.Address != picked.Address {
			t.Errorf("%s: unchanged: %v, %v", name, n, err)
		}
		next := "n2"
		if name == "follower-stop" {
			next = picked.Status.GetNodeName()
		}
		if _, err := s.Again(clusterLedBy(next), picked); err == nil || !strings.Contains(err.Error(), "begin the drill again") {
			t.Errorf("%s: %s leads now: %v", name, next, err)
		}
		gone := clusterLedBy("n1")
		for _, n := range gone.Nodes {
			if n.Address == picked.Address {
				n.Status, n.Err = nil, errors.New("no connection")
			}
		}
		if _, err := s.Again(gone, picked); err == nil {
			t.Errorf("%s: %s does not answer, and the drill goes on", name, picked.Name())
		}
	}
}
