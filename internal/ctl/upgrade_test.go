package ctl

import (
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
)

// ofVersions is a cluster of two members that understand versions, and use the older one.
func ofVersions(t *testing.T, first, second uint32) (a, b *fake) {
	t.Helper()
	a, b = startFake(t), startFake(t)
	b.id = "2"
	list := &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeName: "node1", Address: a.addr, NodeUrl: "http://10.0.0.1:1", Status: modelspb.NodeInfo_LEADER},
		2: {NodeId: 2, NodeName: "node2", Address: b.addr, NodeUrl: "http://10.0.0.2:1", Status: modelspb.NodeInfo_FOLLOWER},
	}}
	for f, understands := range map[*fake]uint32{a: first, b: second} {
		f.role, f.cluster, f.members, f.versions = "master", "c", list, [2]uint32{min(first, second), understands}
	}
	return a, b
}

// says expects a success that prints something.
func says(t *testing.T, got outcome, want string) {
	t.Helper()
	if got.code != exitOK || !strings.Contains(got.stdout, want) {
		t.Errorf("code %d, stdout %q, stderr %q; want %q", got.code, got.stdout, got.stderr, want)
	}
}

func TestUpgradeThatCanBeFinished(t *testing.T) {
	a, _ := ofVersions(t, 5, 5)
	says(t, dkvctl(t, a.addr, "-upgrade"), "cluster-version 5; there is no upgrade to finish\n")
	a.versions[0] = 4
	says(t, dkvctl(t, a.addr, "-upgrade", "status"), "cluster-version 4; all nodes understand version 5: dkvctl -upgrade finish")
	// Scripts read the last line.
	const last = "\ncluster-version 4 is being upgraded to 5: dkvctl -upgrade\n2 alive, 2 total\n"
	if got := dkvctl(t, a.addr, "-status"); got.code != exitOK || !strings.HasSuffix(got.stdout, last) {
		t.Errorf("%+v", got)
	}
	says(t, dkvctl(t, a.addr, "-upgrade", "status", "-o", "json"), `"cluster_version":4`)
	expect(t, dkvctl(t, a.addr, "-upgrade", "finish"), outcome{stdout: "OK\n"})
	if strings.Join(a.paths, " ") != "finish" {
		t.Errorf("sent %q", a.paths)
	}
}

func TestUpgradeThatCannotBeFinished(t *testing.T) {
	a, b := ofVersions(t, 5, 4)
	says(t, dkvctl(t, a.addr, "-upgrade"), "upgrade first what does not understand version 5: node2 ("+b.addr+")")
	expect(t, dkvctl(t, a.addr, "-upgrade", "finish"), outcome{code: exitFailed, stderr: "upgrade first what does not understand version 5: node2 (" + b.addr + ")"})
	if len(a.paths) != 0 {
		t.Errorf("sent %q", a.paths)
	}
	expect(t, dkvctl(t, a.addr, "-upgrade", "finish", "-force"), outcome{stdout: "OK\n"}) // the members decide
	alone := startFake(t)
	alone.role = "discovery"
	says(t, dkvctl(t, alone.addr, "-upgrade"), "there is no upgrade to finish. Name a master of the cluster by -a")
	expect(t, dkvctl(t, alone.addr, "-upgrade", "finish"), outcome{code: exitFailed, stderr: "only nodes that keep a log together have one"})
	expect(t, dkvctl(t, a.addr, "-upgrade", "now"), outcome{code: exitUsage, stderr: `"now" is neither status nor finish`})
}

// Nodes of a release before versions do not say what they understand. If the newest version is
// in use all the same, an upgrade has nothing to finish.
func TestUpgradeWithNodesThatSayNothing(t *testing.T) {
	a, b := ofVersions(t, 4, 0)
	a.versions[0] = 4
	says(t, dkvctl(t, a.addr, "-upgrade"), "there is no upgrade to finish; of an older release that does not say that it understands version 4: node2 ("+b.addr+")")
	a.versions = [2]uint32{}
	says(t, dkvctl(t, a.addr, "-upgrade"), "the masters do not say which version they use: they are of an older release")
}

// A member that does not answer may be of an older release.
func TestUpgradeWithASilentMember(t *testing.T) {
	a, _ := ofVersions(t, 5, 5)
	a.versions[0] = 4
	a.members.Nodes[2] = &modelspb.NodeInfo{NodeId: 2, NodeName: "node2", NodeUrl: "http://10.0.0.2:1", Status: modelspb.NodeInfo_OFFLINE}
	expect(t, dkvctl(t, a.addr, "-upgrade", "finish"), outcome{code: exitFailed, stderr: "it is not known what node2 (http://10.0.0.2:1) understand, which do not answer"})
}
