package ctl

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/doctor"
	"github.com/dkvdb/dkv/internal/testkit"
)

// TestDoctorFindsAllMembers: from one node, the others and what is wrong with them.
func TestDoctorFindsAllMembers(t *testing.T) {
	one, two, silent := startFake(t), startFake(t), testkit.Refusing(t)
	one.role, one.cluster, two.role, two.cluster, two.id = "master", "c", "master", "c", "2"
	list := &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{
		1: {NodeId: 1, NodeUrl: "http://h:1", Address: one.addr}, 2: {NodeId: 2, NodeUrl: "http://h:2", Address: two.addr},
		3: {NodeId: 3, NodeUrl: "http://h:3", Address: silent},
	}}
	one.members, two.members = list, list
	got := dkvctl(t, one.addr, "-doctor")
	if got.code != exitFailed || !strings.Contains(got.stdout, "3 nodes") {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"PROBLEM  unreachable " + silent, "dkvctl -removeNode http://h:3", "PROBLEM  spare: 2 of 3 voters of the cluster are alive"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, got.stdout)
		}
	}
	if got.stderr != "there are problems: 2\n" {
		t.Errorf("stderr %q", got.stderr)
	}
}

func TestDoctorForScripts(t *testing.T) {
	f := startFake(t)
	var d doctor.Diagnosis
	got := dkvctl(t, f.addr, "-doctor", "-o", "json")
	if err := json.Unmarshal([]byte(got.stdout), &d); err != nil || got.code != exitOK {
		t.Fatalf("%v: %+v", err, got)
	}
	if d.Nodes != 1 || d.Problems != 0 || len(d.Checks) < 30 || len(d.Findings) != d.Warnings {
		t.Errorf("%+v", d)
	}
	f.paused = true
	if got := dkvctl(t, f.addr, "-doctor", "-v"); got.code != exitFailed || !strings.Contains(got.stdout, "-resumeWrites") || !strings.Contains(got.stdout, "skipped  swap") {
		t.Errorf("%+v", got)
	}
}

func TestDoctorWithoutANode(t *testing.T) {
	expect(t, dkvctl(t, testkit.Refusing(t), "-doctor"), outcome{code: exitFailed, stderr: "is dkvsrv running there?"})
}
