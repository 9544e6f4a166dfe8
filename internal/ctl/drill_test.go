package ctl

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
)

func TestDrillPlansForALostMajority(t *testing.T) {
	a, b, c := startFake(t), startFake(t), startFake(t)
	b.id, c.id = "2", "3"
	b.lag = 4
	list := &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeName: "node1", Address: a.addr, Status: modelspb.NodeInfo_LEADER},
		2: {NodeId: 2, NodeName: "node2", Address: b.addr, Status: modelspb.NodeInfo_FOLLOWER},
		3: {NodeId: 3, NodeName: "node3", Address: c.addr, Status: modelspb.NodeInfo_FOLLOWER, NonVoting: true},
	}}
	for _, f := range []*fake{a, b, c} {
		f.role, f.cluster, f.members, f.index = "master", "c", list, 10
	}
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "2 masters have a vote, and 2 of them are a majority")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "master node2 ("+b.addr+") lacks 4 entries of the log")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan"), "master without a vote node3")
	says(t, dkvctl(t, a.addr, "-drill", "lost-majority-plan", "-o", "json"), `"majority":2`)
	for _, f := range []*fake{a, b, c} {
		f.mu.Lock()
		if sent := strings.Join(f.paths, " "); sent != "" {
			t.Errorf("it has sent %q", sent)
		}
		f.mu.Unlock()
	}
	expect(t, dkvctl(t, startFake(t).addr, "-drill", "lost-majority-plan"), outcome{code: exitFailed, stderr: "-a names no masters"})
	expect(t, dkvctl(t, a.addr, "-drill", "fire"), outcome{code: exitUsage, stderr: "is not a drill; there are leader-stop, follower-stop"})
}
