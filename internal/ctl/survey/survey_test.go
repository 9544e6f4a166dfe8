package survey

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/output"
)

// Each cluster needs a majority of its own; nodes without clusters need one together.
func TestMajority(t *testing.T) {
	well, silent, noVote := Row{Health: Alive}, Row{Health: unreachable}, Row{Health: unreachable, NonVoting: true}
	for name, c := range map[string]struct {
		clusters []electorate
		rows     []Row
		want     string
	}{
		"two of three":                       {[]electorate{{3, 2}}, []Row{well, well, silent}, ""},
		"one of three":                       {[]electorate{{3, 1}}, []Row{well, silent, silent}, "no majority: of 3 voting members 1 are alive"},
		"two of four":                        {[]electorate{{4, 2}}, nil, "no majority: of 4 voting members 2 are alive"},
		"a cluster that is well beside":      {[]electorate{{3, 3}, {3, 0}}, nil, "no majority: of 3 voting members 0 are alive"},
		"standalone nodes":                   {nil, []Row{well, well, silent}, ""},
		"half of the standalone nodes":       {nil, []Row{well, silent}, "no majority of the nodes is alive"},
		"standalone nodes without a vote":    {nil, []Row{well, noVote, noVote}, ""},
		"a silent node beside a cluster":     {[]electorate{{3, 3}}, []Row{well, silent, silent, silent}, ""},
		"a cluster of one and a silent node": {[]electorate{{1, 1}}, []Row{well, silent}, "no majority of the nodes is alive"},
	} {
		err := (&Survey{Rows: c.rows, clusters: c.clusters}).Majority()
		if got := errorText(err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A vBucket is in the worst of the conditions that hold for it.
func TestConditions(t *testing.T) {
	for _, c := range []struct {
		v    VBucket
		want string
	}{
		{VBucket{State: "serving", IsLeader: true}, "serving"},
		{VBucket{State: "serving", Leader: "a:1"}, "serving"},
		{VBucket{State: "serving"}, "without a leader"},
		{VBucket{State: "serving", IsLeader: true, Reason: "the disk is full"}, "rejecting writes"},
		{VBucket{State: "serving", IsLeader: true, Reason: "paused", WritesPaused: true}, "paused"},
		{VBucket{State: "serving", WritesPaused: true}, "without a leader"},
		{VBucket{State: "serving", Unhealthy: "no master"}, "stale"},
		{VBucket{State: "failed", Unhealthy: "bad block"}, "failed"},
		{VBucket{}, "-"},
	} {
		if got := c.v.condition(); got != c.want {
			t.Errorf("%+v is %s, want %s", c.v, got, c.want)
		}
	}
	if severity("failed") >= severity("of a newer release") || severity("of a newer release") >= severity("paused") {
		t.Error("what is not known is not between what is out of service and what rejects writes")
	}
}

func TestWarning(t *testing.T) {
	for _, c := range []struct {
		of   []VBucket
		want string
	}{
		{nil, ""},
		{[]VBucket{{State: "serving", IsLeader: true}}, ""},
		{[]VBucket{{State: "serving", IsLeader: true}, {State: "serving", IsLeader: true, Reason: "the disk is full"}}, "it serves reads, but rejects writes: the disk is full"},
		{[]VBucket{{Name: "7", State: "restoring", Reason: "a restore is under way"}, {State: "serving", IsLeader: true, Reason: "the disk is full"}},
			"it serves reads, but vBucket 7 is restoring: a restore is under way"},
	} {
		if got := (&Row{VBuckets: c.of}).Warning(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.of, got, c.want)
		}
	}
}

// The health of a node is that of its worst vBucket.
func TestRowOfANode(t *testing.T) {
	well := &serverpb.VBucketStatus{VBucket: "0", State: "serving", Leader: "a:1"}
	for _, c := range []struct {
		of     []*serverpb.VBucketStatus
		health string
		reason string
	}{
		{nil, Alive, ""},
		{[]*serverpb.VBucketStatus{well}, Alive, ""},
		{[]*serverpb.VBucketStatus{well, {State: "serving", Leader: "a:1", Unhealthy: "no master"}}, unhealthy, "no master"},
		{[]*serverpb.VBucketStatus{well, {State: "failed", Reason: "bad block"}, {State: "serving", Unhealthy: "no master"}}, "FAILED", "bad block"},
		{[]*serverpb.VBucketStatus{{State: "serving", Mode: "stream", Leader: "a:1", Reason: "a slave rejects writes"}}, Alive, ""},
	} {
		row := rowOf("n:1", &serverpb.NodeStatusResponse{VBuckets: c.of})
		if row.Health != c.health || row.Reason != c.reason {
			t.Errorf("%v: %s, %q; want %s, %q", c.of, row.Health, row.Reason, c.health, c.reason)
		}
	}
}

func TestVersionsSentence(t *testing.T) {
	node := func(name, health string, uses, understands uint32) Row {
		return Row{Name: name, Address: name + ":1", Role: "master", Health: health, ClusterVersion: uses, Understands: understands}
	}
	for _, c := range []struct {
		rows []Row
		want string
	}{
		{[]Row{node("a", Alive, 5, 5), node("b", Alive, 5, 5)}, "there is no upgrade to finish"},
		{[]Row{node("a", Alive, 4, 5), node("b", Alive, 4, 5)}, "all nodes understand version 5"},
		{[]Row{node("a", Alive, 4, 5), node("b", Alive, 4, 4)}, "upgrade first what does not understand version 5: b (b:1)"},
		{[]Row{node("a", Alive, 4, 5), node("b", unreachable, 0, 0)}, "it is not known what b (b:1) understand"},
		{[]Row{node("a", Alive, 5, 5), node("b", Alive, 0, 0)}, "of an older release that does not say that it understands version 5: b (b:1)"},
		{[]Row{node("a", Alive, 0, 0)}, "the masters do not say which version they use"},
		{[]Row{{Role: "none", Health: Alive}}, "no member of a cluster has answered with a version"},
	} {
		if got := VersionsOf(c.rows).Sentence(); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.rows, got, c.want)
		}
	}
}

// What comes from nodes cannot act on the terminal, and the last line is for scripts.
func TestPrint(t *testing.T) {
	rows := []Row{
		{ID: "1", Address: "a:1", Role: "master", Health: Alive, VBuckets: []VBucket{{State: "serving", IsLeader: true, Term: 2, CommitIndex: 7, AppliedIndex: 7}}},
		{Address: "b:1", Health: unreachable, Reason: "it \x1b[31mhangs"},
	}
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	if err := Print(&output.Printer{W: w}, rows, false); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "1  a:1  master  ALIVE        leader=self  term=2  commit=7  applied=7  lag=0/0ms\n" +
		"-  b:1  -       UNREACHABLE  it \\x1b[31mhangs\n1 alive, 2 total\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
