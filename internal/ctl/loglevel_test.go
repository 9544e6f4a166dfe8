package ctl

import (
	"slices"
	"testing"
)

// A level of all lines, that of a component, and what takes it away, each as typed; without
// arguments the levels are only shown.
func TestLogLevel(t *testing.T) {
	shown := outcome{stdout: "all           INFO\nreplica/raft  DEBUG\nserver        WARN\n"}
	for _, c := range []struct {
		args []string
		sent string
		want outcome
	}{
		{[]string{"-logLevel"}, "level  of ", shown},
		{[]string{"-logLevel", "debug", "replica/raft"}, "level debug of replica/raft", shown},
		{[]string{"log-level", "warn"}, "level warn of ", shown},
		{[]string{"-logLevel", "default", "server"}, "level  of server", shown},
		{[]string{"-logLevel", "-o", "json"}, "level  of ", outcome{stdout: `{"level":"INFO","components":{"replica/raft":"DEBUG","server":"WARN"}}` + "\n"}},
		{[]string{"-logLevel", "debug", "raft"}, "", outcome{code: exitFailed, stderr: `there is no component "raft"`}},
		{[]string{"-logLevel", "default"}, "", outcome{code: exitUsage, stderr: "name the component"}},
		{[]string{"-logLevel", "loud"}, "", outcome{code: exitUsage, stderr: `there is no level "loud": it is debug, info, warn or error`}},
	} {
		f := startFake(t)
		expect(t, dkvctl(t, f.addr, c.args...), c.want)
		if c.sent == "" && len(f.paths) > 0 || c.sent != "" && !slices.Equal(f.paths, []string{c.sent}) {
			t.Errorf("%q sends %q", c.args, f.paths)
		}
	}
}
