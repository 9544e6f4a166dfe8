package admin

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/dkvdb/dkv/internal/app/condition"
	"github.com/dkvdb/dkv/internal/app/node"
	"github.com/dkvdb/dkv/internal/app/role"
	"github.com/dkvdb/dkv/internal/app/role/standalone"
	"github.com/dkvdb/dkv/internal/config"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/ops"
	"github.com/dkvdb/dkv/internal/telemetry"
)

func TestHTTPStatus(t *testing.T) {
	for kind, want := range map[kv.Kind]int{
		kv.Invalid: 400, kv.NotFound: 404, kv.Precondition: 409, kv.Exhausted: 507,
		kv.TooLate: 409, kv.OtherCluster: 409, kv.Lost: 409,
		kv.Unimplemented: 501, kv.Unavailable: 503, kv.NotOwner: 503, kv.NotConfirmed: 503,
		kv.Internal: 500, kv.Corrupt: 500, kv.OutOfRange: 500,
	} {
		if got := httpStatus(kv.Errorf(kind, "x")); got != want {
			t.Errorf("kind %d is %d, not %d", kind, got, want)
		}
	}
	if got := httpStatus(errors.New("x")); got != 500 {
		t.Errorf("any error is %d", got)
	}
}

// document is an Admin of a standalone node with a condition.
func document(n condition.Node) *Admin {
	cfg := new(config.Config)
	cfg.Node.VBuckets, cfg.Node.VBucket = 1, "default"
	self := &node.Node{Config: cfg, Log: slog.New(slog.DiscardHandler), Layout: node.LayoutOf(cfg)}
	self.Info.ID, self.Info.Name, self.Info.Database = "1", "n1", "db"
	return &Admin{
		Node:      self,
		Role:      standalone.New(self),
		Readiness: func() condition.Readiness { return n.Readiness },
		Condition: func() condition.Node { return n },
		Services:  func() *role.Services { return new(role.Services) },
	}
}

// TestEverythingSaysWhyTheNodeIsNotOpen: the health document, the probes and every
// administrative call answer what a node waits for that is not open.
func TestEverythingSaysWhyTheNodeIsNotOpen(t *testing.T) {
	waits := errors.New("this node waits to be added")
	a := document(condition.Judge(condition.Evidence{Readiness: condition.Readiness{Starting: waits}}))
	options := a.Options(Access{Gatherer: prometheus.NewRegistry()})
	if h := options.Health(t.Context()); h.Status != ops.Unhealthy || len(h.Reasons) != 1 || h.Reasons[0] != waits.Error() || h.NodeName != "n1" || h.NodeID != "" {
		t.Errorf("the health is %+v", h)
	}
	if options.Serving() {
		t.Error("it serves")
	}
	for _, c := range options.Ready {
		if err := c.Probe(t.Context()); err != waits {
			t.Errorf("the probe %s says %v", c.Name, err)
		}
	}
	for path, view := range options.Views {
		if _, err := view(t.Context()); kv.KindOf(err) != kv.Unavailable || !errors.Is(err, waits) {
			t.Errorf("%s answers %v", path, err)
		}
	}
	for path, action := range options.Actions {
		if _, err := action(t.Context(), nil); kv.KindOf(err) != kv.Unavailable || !errors.Is(err, waits) {
			t.Errorf("%s answers %v", path, err)
		}
	}
}

// TestBodiesThatAreNotUnderstood: the error shows what the body of a call should be.
func TestBodiesThatAreNotUnderstood(t *testing.T) {
	options := document(condition.Node{}).Options(Access{Gatherer: prometheus.NewRegistry()})
	for path, bodies := range map[string][]string{
		"/admin/backup":                      {"", "{}", `{"path": 1}`, `{"path": "a", "vbucket": "1"}`},
		"/admin/restore":                     {"", "{}", `{"path": 1}`},
		"/admin/cluster/add":                 {"", "{}", `{"node_url": 1}`, `{"node_url": "http://a:1", "nonvoting": true}`},
		"/admin/cluster/remove":              {"", "{}"},
		"/admin/cluster/transfer-leadership": {`{"target": 1}`, `{"taget": "http://a:1"}`},
		"/admin/reset-clock":                 {`{"time": "noon"}`, `{"tiem": "2026-01-01T00:00:00Z"}`},
		"/admin/promote":                     {`{"plannned": true}`},
		"/admin/raft/snapshot":               {`{"vBuckets": "1"}`},
		"/admin/log-level":                   {`{"level": "debug", "components": "replica/raft"}`},
	} {
		for _, body := range bodies {
			var bad *ops.Error
			if _, err := options.Actions[path](t.Context(), json.RawMessage(body)); !errors.As(err, &bad) || bad.Status != 400 || !strings.HasPrefix(bad.Text, "the body must be {") {
				t.Errorf("%s with %q: %v", path, body, err)
			}
		}
	}
}

// TestCallsWithoutABodyRejectOne: a caller that sends one means a part of what the call is about.
func TestCallsWithoutABodyRejectOne(t *testing.T) {
	options := document(condition.Node{}).Options(Access{Gatherer: prometheus.NewRegistry()})
	for _, path := range []string{"/admin/pause-writes", "/admin/resume-writes", "/admin/raft/step-down"} {
		var bad *ops.Error
		if _, err := options.Actions[path](t.Context(), json.RawMessage(`{"vbucket": "1"}`)); !errors.As(err, &bad) || bad.Status != 400 || !strings.HasPrefix(bad.Text, "this call takes no body") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestProbeOfStorageSaysWhy: the reason is that of the vBucket that cannot be read.
func TestProbeOfStorageSaysWhy(t *testing.T) {
	bad := errors.New("bad block")
	n := condition.Node{
		Readiness: condition.Readiness{Accepts: true, Fitness: []condition.Fitness{{Readable: true, Served: true}, {}}},
		VBuckets:  []condition.VBucket{{Name: "0"}, {Name: "1", Unreadable: bad}},
	}
	if err := document(n).probeStorage(t.Context()); err != bad {
		t.Errorf("the probe says %v", err)
	}
	n.Fitness[1].Readable = true
	if err := document(n).probeStorage(t.Context()); err != nil {
		t.Errorf("the probe says %v", err)
	}
}

// TestLogLevel: an administrator gives the lines of a component a level of their own, and takes it away again.
func TestLogLevel(t *testing.T) {
	a := document(condition.Node{})
	a.Node.Log = telemetry.NewLogger(telemetry.LogOptions{Writer: io.Discard, Level: new(telemetry.Levels)})
	change := a.Options(Access{Gatherer: prometheus.NewRegistry()}).Actions["/admin/log-level"]
	for _, c := range []struct{ body, answer, err string }{
		{`{"level": "debug", "component": "replica/raft"}`, `{"level":"INFO","components":{"replica/raft":"DEBUG"}}`, ""},
		{`{"level": "warn"}`, `{"level":"WARN","components":{"replica/raft":"DEBUG"}}`, ""},
		{`{"component": "replica/raft"}`, `{"level":"WARN"}`, ""},
		{`{"level": "loud"}`, "", "a level is debug, info, warn or error"},
		{`{"level": "debug", "component": "raft"}`, "", `there is no component "raft"`},
		{``, "", "the body must be {"},
		{`{}`, "", "the body must be {"},
	} {
		got, err := change(t.Context(), json.RawMessage(c.body))
		if c.err != "" {
			var bad *ops.Error
			if !errors.As(err, &bad) || bad.Status != 400 || !strings.Contains(bad.Text, c.err) {
				t.Errorf("%s: %v", c.body, err)
			}
			continue
		}
		if text, _ := json.Marshal(got); err != nil || string(text) != c.answer {
			t.Errorf("%s answers %s, %v; want %s", c.body, text, err, c.answer)
		}
	}
}
