package ctl

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/doctor"
	"github.com/dkvdb/dkv/internal/ctl/survey"
)

// vBuckets are those of the fake's status.
func (f *fake) vBuckets() []*serverpb.VBucketStatus {
	if f.of != nil {
		return f.of
	}
	return []*serverpb.VBucketStatus{{
		VBucket: "default", State: f.state, IsLeader: f.id == "1", Leader: f.leader, Term: 1, CommitIndex: f.index, AppliedIndex: f.index - f.lag, LagChanges: f.lag,
		SnapshotBytes: f.arrived[0], SnapshotSize: f.arrived[1], HistoryId: f.history, FirstChangeNumber: f.oldest, WritesPaused: f.paused,
	}}
}

// many returns the status of a node with 1024 vBuckets that are well.
func many() []*serverpb.VBucketStatus {
	var out []*serverpb.VBucketStatus
	for i := range 1024 {
		out = append(out, &serverpb.VBucketStatus{VBucket: fmt.Sprint(i), Mode: "raft", State: "serving", IsLeader: true, Leader: "10.0.0.1:8080", Term: 1, CommitIndex: 2, AppliedIndex: 2})
	}
	return out
}

// TestThousandVBuckets: a line says how many are how, the worst first, and a page at most what each
// that is not well lacks. JSON has all.
func TestThousandVBuckets(t *testing.T) {
	f := startFake(t)
	f.of = many()
	want := "1  n1  none  ALIVE  leader=self for 1024 of 1024 vBuckets  term=1  commit=2048  applied=2048  lag=0/0ms\n1 alive, 1 total\n"
	for _, command := range [][]string{{"-status"}, {"-status", "-v"}} {
		if got := dkvctl(t, f.addr, command...); got.code != exitOK || golden(got.stdout, []*fake{f}) != want {
			t.Errorf("%s: %+v, want\n%s", command, got, want)
		}
	}

	f.of[1000].State, f.of[1000].Reason = "failed", "storage failed: bad block"
	for i := range 30 {
		f.of[i].IsLeader, f.of[i].Leader = false, ""
	}
	f.of[40].Reason = "the disk is nearly full"
	f.of[50].WritesPaused, f.of[50].Reason = true, "writes are paused"
	got := dkvctl(t, f.addr, "-status")
	want = "1  n1  none  FAILED  leader=self for 994 of 1024 vBuckets  term=1  commit=2048  applied=2048  lag=0/0ms  writes paused" +
		"  vBuckets: 1 failed (1000), 30 without a leader (0, 1, 2 and 27 more), 1 rejecting writes (40), 1 paused (50), 991 serving  storage failed: bad block\n0 alive, 1 total\n"
	if text := golden(got.stdout, []*fake{f}); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	const listedVBuckets = 20
	lines := strings.Split(golden(dkvctl(t, f.addr, "-status", "-v").stdout, []*fake{f}), "\n")
	if len(lines) != 1+listedVBuckets+1+2 || lines[1] != "  vBucket 1000  failed  leader=10.0.0.1:8080  lag=0/0ms  storage failed: bad block" ||
		lines[2] != "  vBucket 0  without a leader  leader=-  lag=0/0ms" || lines[1+listedVBuckets] != "  ... and 13 more: -o json has all" {
		t.Errorf("-v:\n%s", strings.Join(lines, "\n"))
	}
	var all struct{ Nodes []survey.Row }
	if err := json.Unmarshal([]byte(dkvctl(t, f.addr, "-status", "-o", "json").stdout), &all); err != nil || len(all.Nodes) != 1 || len(all.Nodes[0].VBuckets) != 1024 ||
		all.Nodes[0].VBuckets[40].Reason != "the disk is nearly full" {
		t.Errorf("JSON: %v, %d nodes", err, len(all.Nodes))
	}
	for _, command := range [][]string{{"-doctor"}, {"-top", "-n", "1", "-poll", "1ms"}, {"-listNodes"}} {
		if got := dkvctl(t, f.addr, command...); strings.Count(got.stdout, "\n") > 40 {
			t.Errorf("%s prints\n%s", command, got.stdout)
		}
	}
	var d doctor.Diagnosis
	if err := json.Unmarshal([]byte(dkvctl(t, f.addr, "-doctor", "-o", "json").stdout), &d); err != nil || len(d.Findings) == 0 {
		t.Errorf("%v: %+v", err, d)
	}
}

// TestHealthWhileWritesAreRejected: the node serves, and what it does not do is said beside that.
func TestHealthWhileWritesAreRejected(t *testing.T) {
	f := startFake(t)
	f.of = many()[:1]
	f.of[0].Reason = "the disk is nearly full"
	if got := dkvctl(t, f.addr, "-health"); got.code != exitOK || got.stdout != "OK\n" || got.stderr != "warning: it serves reads, but rejects writes: the disk is nearly full\n" {
		t.Errorf("%+v", got)
	}
	if got := dkvctl(t, f.addr, "-status"); got.code != exitOK || !strings.Contains(got.stdout, "rejecting writes: the disk is nearly full\n") {
		t.Errorf("%+v", got)
	}
	f.of[0].State, f.of[0].Reason = "failed", "storage failed, only reads are served: read-only file system"
	if got := dkvctl(t, f.addr, "-health"); got.code != exitOK || got.stderr != "warning: it serves reads, but vBucket 0 is failed: storage failed, only reads are served: read-only file system\n" {
		t.Errorf("%+v", got)
	}
	f.of[0].State = "serving"
	f.of[0].Mode = "stream" // a slave always does
	if got := dkvctl(t, f.addr, "-health"); got.code != exitOK || got.stderr != "" {
		t.Errorf("%+v", got)
	}
}
