package ctl

import (
	"encoding/json"
	"strings"
	"testing"

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
