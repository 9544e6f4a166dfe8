package ctl

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/top"
	"github.com/dkvdb/dkv/internal/testkit"
)

func TestTopForScripts(t *testing.T) {
	f := startFake(t)
	got := dkvctl(t, f.addr, "-top", "-n", "2", "-poll", "10ms")
	if got.code != exitOK || strings.Count(got.stdout, "node1") != 2 || strings.Contains(got.stdout, "\x1b") || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	got = dkvctl(t, f.addr, "-top", "-n", "1", "-poll", "10ms", "-o", "json")
	var frame top.Frame
	if err := json.Unmarshal([]byte(got.stdout), &frame); err != nil || len(frame.Nodes) != 1 || frame.Nodes[0].State != "serving" {
		t.Errorf("%v: %+v", err, got)
	}
	expect(t, dkvctl(t, testkit.Refusing(t), "-top", "-n", "1"), outcome{code: exitFailed, stderr: "is dkvsrv running there?"})
}

// TestNodesCannotActOnTheTerminal: whatever a node says of itself, or answers as an error.
func TestNodesCannotActOnTheTerminal(t *testing.T) {
	f := startFake(t)
	const evil = "\x1b]0;owned\a\u009b2J\n9 alive, 9 total\u202e"
	f.id, f.leader, f.cluster, f.state = "1"+evil, "10.0.0.1:8080"+evil, "c"+evil, "serving"+evil
	f.members = &serverpb.ListNodesResponse{Nodes: map[uint64]*modelspb.NodeInfo{1: {NodeUrl: "http://10.0.0.1:1" + evil}}}
	for _, command := range [][]string{{"-status", "-v"}, {"-listNodes", "-v"}, {"-doctor", "-v"}, {"-top", "-n", "1"}, {"-upgrade"}} {
		got := dkvctl(t, f.addr, command...)
		for _, sign := range []string{"\x1b", "\a", "\u009b", "\u202e", "\n9 alive"} {
			if strings.Contains(got.stdout+got.stderr, sign) {
				t.Errorf("%v prints %q: %q", command, sign, got.stdout+got.stderr)
			}
		}
	}
	f.fail = func(string) error { return status.Error(codes.InvalidArgument, "no such thing"+evil) }
	if got := dkvctl(t, f.addr, "-get", "k"); strings.ContainsAny(got.stderr, "\x1b\a\u202e") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("the error is printed as %q", got.stderr)
	}
}
