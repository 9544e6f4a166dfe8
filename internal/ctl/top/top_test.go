package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dkvdb/dkv/api/modelspb"
	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/ctl/doctor"
	"github.com/dkvdb/dkv/internal/ctl/observe"
)

// seen is a node that has answered so many requests, all of them in 1 to 2 ms.
func seen(t *testing.T, i int, requests int) *observe.Node {
	n := &observe.Node{Address: fmt.Sprintf("10.0.0.%d:8080", i), Metrics: new(observe.Metrics),
		Member: &modelspb.NodeInfo{NodeUrl: "http://h:1", DcID: fmt.Sprint(i)}, MemberOf: "c", MemberRole: observe.Master,
		Status: &serverpb.NodeStatusResponse{NodeName: fmt.Sprintf("n%d", i), Role: "master", Version: "1.0", Database: "orders",
			VBuckets: []*serverpb.VBucketStatus{{VBucket: "0", State: "serving", IsLeader: i == 1, AppliedIndex: 7}}}}
	text := fmt.Sprintf(`[{"name": "dkv_requests_total", "metrics": [{"labels": {"code": "OK"}, "value": %d}, {"labels": {"code": "Unavailable"}, "value": %d}]},
		{"name": "dkv_request_duration_seconds", "metrics": [{"labels": {"op": "get"}, "buckets": {"0.001": 0, "0.002": %[1]d, "+Inf": %[1]d}}]}]`, requests, requests/10)
	if err := json.Unmarshal([]byte(text), n.Metrics); err != nil {
		t.Fatal(err)
	}
	return n
}

// looks returns two looks at a cluster, two seconds apart, between which each node answers
// 2000 requests, and 200 with an error.
func looks(t *testing.T, nodes int) (before, now *observe.Cluster) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	before, now = &observe.Cluster{At: at}, &observe.Cluster{At: at.Add(2 * time.Second)}
	for i := 1; i <= nodes; i++ {
		before.Nodes = append(before.Nodes, seen(t, i, 1000))
		now.Nodes = append(now.Nodes, seen(t, i, 3000))
	}
	return before, now
}

func TestRates(t *testing.T) {
	before, now := looks(t, 3)
	f := New(before, now)
	r := f.Nodes[0]
	if !r.RatesKnown || r.Requests != 1100 || r.Errors != 100 || r.P99Micros != 1990 || r.Leads != 1 || f.Database != "orders" {
		t.Errorf("%+v", r)
	}
	if f := New(nil, now); f.Nodes[0].RatesKnown {
		t.Error("one look has rates")
	}
	if f := New(now, before); f.Nodes[0].RatesKnown {
		t.Error("a process that was started again has rates")
	}
	idle := ratesOf(now.Nodes[0], now.Nodes[0], time.Second)
	if !idle.Known || idle.Requests != 0 || idle.P99 != 0 {
		t.Errorf("an idle node has %+v", idle)
	}
}

func TestText(t *testing.T) {
	before, now := looks(t, 3)
	now.Nodes[2].Status, now.Nodes[2].Metrics, now.Nodes[2].Err = nil, nil, errors.New("connection refused")
	now.Nodes[1].Status.NodeName = "n2\x1b[2J\n"
	f := New(before, now)
	text := f.Text()
	for _, want := range []string{
		"dkv orders  2 of 3 nodes answer  03:04:07\n",
		"! 10.0.0.3:8080: it does not answer: connection refused\n",
		"! 2 of 3 voters of the cluster are alive, which is the bare majority",
		"n1             10.0.0.1:8080  master  serving   *1/1   1100    100  2.0ms",
		"n2\\x1b[2J\\n    10.0.0.2:8080  master  serving    0/1   1100    100  2.0ms",
		"10.0.0.3:8080  10.0.0.3:8080  master  DOWN         -      -      -      -    -",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("a name of a node reaches the terminal:\n%q", text)
	}
}

// TestEveryTerminalSize holds that a frame fits, with what is wrong and the nodes in it.
func TestEveryTerminalSize(t *testing.T) {
	before, now := looks(t, 30)
	f := New(before, now)
	for i := range 20 {
		f.Wrong = append(f.Wrong, doctor.Finding{Severity: doctor.Problem, What: fmt.Sprint(strings.Repeat("long ", 40), i)})
	}
	for width := 20; width <= 200; width += 20 {
		for height := 5; height <= 60; height += 5 {
			lines := f.lines(width, height, true)
			if len(lines) > height+1 {
				t.Errorf("%d lines for a height of %d", len(lines), height)
			}
			text := ""
			for _, l := range lines {
				if n := utf8.RuneCountInString(l.text); n > width {
					t.Errorf("%d columns for a width of %d: %s", n, width, l.text)
				}
				text += l.text + "\n"
			}
			if height >= 10 && (!strings.Contains(text, "! long") || !strings.Contains(text, "NODE") || !strings.Contains(text, "... and ") && height < 30) {
				t.Errorf("%dx%d:\n%s", width, height, text)
			}
		}
	}
}

// screenOf runs a screen of 80x24 with typed keys, and returns what is written.
func screenOf(t *testing.T, keys io.Reader, frames int, colour bool) string {
	before, now := looks(t, 3)
	now.Nodes[2].Status, now.Nodes[2].Err = nil, errors.New("refused")
	var out strings.Builder
	s := Screen{Out: &out, Keys: keys, Colour: colour, Interval: time.Millisecond, Frames: frames, Size: func() (int, int) { return 80, 24 }}
	if err := s.Run(t.Context(), func(context.Context) Frame { return New(before, now) }); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestScreenIsRestored(t *testing.T) {
	for _, key := range []string{"q", "Q", "\x03", "\x04", ""} { // "" is the end of the input
		out := screenOf(t, strings.NewReader("x"+key), 0, false)
		if !strings.HasPrefix(out, openScreen) || !strings.HasSuffix(out, closeScreen) {
			t.Errorf("%q: %q", key, out)
		}
	}
}

func TestColours(t *testing.T) {
	keys, typed := io.Pipe()
	defer typed.Close()
	if out := screenOf(t, keys, 2, true); !strings.Contains(out, string(alarm)+"! 10.0.0.3:8080") || strings.Count(out, home) != 2 {
		t.Errorf("%q", out)
	}
	keys, typed = io.Pipe()
	defer typed.Close()
	if out := screenOf(t, keys, 2, false); strings.Contains(out, string(alarm)) || strings.Contains(out, string(heading)) {
		t.Errorf("without colours: %q", out)
	}
}

// TestMuchIsWrong: what is printed to no terminal is bounded, too.
func TestMuchIsWrong(t *testing.T) {
	f := Frame{Wrong: make([]doctor.Finding, 1000)}
	if text := f.Text(); strings.Count(text, "\n") > wrongMost+5 || !strings.Contains(text, "\n... and 980 more: dkvctl -doctor\n") {
		t.Errorf("a frame of\n%s", text)
	}
}

// TestSmallDisk: less than a gigabyte is not nothing.
func TestSmallDisk(t *testing.T) {
	for want, of := range map[string]Row{"95% 243M": {DiskFree: 243 << 20, DiskTotal: 256 << 20}, "50% 1G": {DiskFree: 1 << 30, DiskTotal: 2 << 30}} {
		if got := disk(of); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
