package ctl

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/api/serverpb"
)

// looks is how often a fake has a command look on before it answers: what it is told by all of
// them but the last has been shown by then.
const looks = 6

// answerWhenLookedAt has a fake answer a method when its status was asked for a few times.
func answerWhenLookedAt(f *fake, method string) {
	looked := make(chan struct{}, 1000)
	f.fail = func(called string) error {
		switch called {
		case "GetNodeStatus":
			looked <- struct{}{}
		case method:
			for range looks {
				<-looked
			}
		}
		return nil
	}
}

var copying = &serverpb.Task{Kind: "backup", Subject: "monday", Step: "copies the files", Part: 3, Parts: 16, Done: 40, Total: 100, Unit: "B", Millis: 2500}

// TestProgressOfANode shows how far the node says it is, in lines, as documents, or not at all.
func TestProgressOfANode(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"-progress 10ms", "backup monday, vBucket 3 of 16: copies the files (40%): 0s so far\n"},
		{"-progress 10ms -o json", `{"text":"backup monday, vBucket 3 of 16: copies the files","done":40,"total":100,"unit":"B",`},
	} {
		f := startFake(t)
		f.tasks = []*serverpb.Task{{Kind: "backup", Subject: "sunday", Step: "copies the files"}, copying, {Kind: "restore", Subject: "monday", Step: "checks the backup"}}
		answerWhenLookedAt(f, "Backup")
		got := dkvctl(t, f.addr, append(strings.Fields(c.options), "-backup", "monday")...)
		if got.code != exitOK || !strings.Contains(got.stderr, c.want) || strings.Contains(got.stderr, "sunday") || strings.Contains(got.stderr, "restore") {
			t.Errorf("%s: %+v, want %q", c.options, got, c.want)
		}
	}
	f := startFake(t)
	f.tasks = []*serverpb.Task{copying}
	expect(t, dkvctl(t, f.addr, "-backup", "monday", "-q"), outcome{stdout: "OK\n"})
	if n := f.calls("GetNodeStatus"); n != 0 {
		t.Errorf("%d looks with -q", n)
	}
}

// TestProgressOfANodeThatDoesNotSay shows for how long the command has waited.
func TestProgressOfANodeThatDoesNotSay(t *testing.T) {
	f := startFake(t)
	answerWhenLookedAt(f, "RemoveNode")
	got := dkvctl(t, f.addr, "-removeNode", "http://h:1", "-progress", "10ms")
	if got.code != exitOK || !strings.Contains(got.stderr, "the node is being removed: 0s so far\n") {
		t.Errorf("%+v", got)
	}
}

// TestProgressOfVerify adds up what the nodes have hashed.
func TestProgressOfVerify(t *testing.T) {
	a, b := startFake(t), startFake(t)
	for _, f := range []*fake{a, b} {
		f.tasks = []*serverpb.Task{{Kind: "verify", Subject: "default", Step: "hashes all keys", Done: 30, Total: 100, Unit: "keys"}}
		answerWhenLookedAt(f, "GetContentHash")
	}
	got := dkvctl(t, a.addr+","+b.addr, "-verify", "-progress", "10ms", "-o", "json")
	if !strings.Contains(got.stderr, `{"text":"vBucket 1 of 1 is being compared on 2 nodes","done":60,"total":200,"unit":" keys",`) {
		t.Errorf("%+v", got)
	}
}

// TestInterrupted says what becomes of what the node has begun, and how to look again.
func TestInterrupted(t *testing.T) {
	for line, want := range map[string]string{
		"-backup monday":         "leaves nothing of it",
		"-restore monday":        "the data stays as it was, unless",
		"-removeNode http://h:1": "the same -removeNode continues",
		"-addNode http://h:1":    "the same -addNode continues",
		"-transferLeader":        "-status shows which node leads what",
		"-stepDown":              "-status shows which node leads what",
		"-snapshot":              "what is durable by now stays so",
		"-verify":                "nothing was changed",
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		f := startFake(t)
		f.fail = func(method string) error {
			switch method {
			case "Backup", "Restore", "RemoveNode", "AddNode", "TransferLeader", "StepDown", "Snapshot", "GetContentHash":
				interrupt()
				return status.Error(codes.Canceled, "the caller is gone")
			}
			return nil
		}
		got := runMain(ctx, "", nil, append([]string{"-a", f.addr, "-q"}, strings.Fields(line)...)...)
		if got.code != exitFailed || !strings.HasPrefix(got.stderr, "interrupted: ") || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v, want %q", line, got, want)
		}
	}
}

// TestTooLong says the same of a command that -timeout ends.
func TestTooLong(t *testing.T) {
	f := startFake(t)
	f.fail = func(string) error { return status.Error(codes.DeadlineExceeded, "") }
	got := dkvctl(t, f.addr, "-backup", "monday", "-q")
	if got.code != exitFailed || !strings.Contains(got.stderr, "-timeout allows more time") || !strings.Contains(got.stderr, "leaves nothing of it") {
		t.Errorf("%+v", got)
	}
}

// TestTasksInStatus shows what a node is busy with to those who look.
func TestTasksInStatus(t *testing.T) {
	f := startFake(t)
	f.tasks = []*serverpb.Task{copying, {Kind: "snapshot"}}
	if got := dkvctl(t, f.addr, "-status"); !strings.Contains(got.stdout, "  backup monday, vBucket 3 of 16: copies the files (40%)  snapshot: begins\n") {
		t.Errorf("%+v", got)
	}
	if got := dkvctl(t, f.addr, "-status", "-o", "json"); !strings.Contains(got.stdout,
		`"tasks":[{"kind":"backup","subject":"monday","step":"copies the files","part":3,"parts":16,"done":40,"total":100,"unit":"B","seconds":2.5},`) {
		t.Errorf("%+v", got)
	}
}
