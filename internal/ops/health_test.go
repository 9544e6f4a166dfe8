package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestQuick(t *testing.T) {
	serving := true
	o := options()
	o.Serving = func() bool { return serving }
	o.Health = func(context.Context) Health { t.Error("the quick check does work"); return Health{} }
	s := newServer(t, o)
	if r := call(s, "GET", "/health/quick", ""); r.Code != http.StatusOK || r.Body.String() != "ok\n" {
		t.Errorf("serving: %d %q", r.Code, r.Body)
	}
	serving = false
	if r := call(s, "GET", "/health/quick", ""); r.Code != http.StatusServiceUnavailable {
		t.Errorf("not serving: %d", r.Code)
	}
}

func TestHealthDocument(t *testing.T) {
	o := options()
	o.Health = func(context.Context) Health {
		return Health{
			Status: Degraded, Reasons: []string{"disk nearly full"}, NodeID: "7", NodeName: "n1", Version: "v1", Role: "master", UptimeSeconds: 1.5,
			VBuckets: []VBucket{{
				Database: "default", Name: "default", Mode: "raft", State: "serving", IsLeader: true, Leader: "a:1", Term: 3, CommitIndex: 9,
				AppliedIndex: 8, LagChanges: 1, LagSeconds: 0.5, Peers: []Peer{{ID: "2", Address: "b:1", Healthy: true}},
			}},
			Disk: Disk{FreeBytes: 10, TotalBytes: 100, ReserveBytes: 5},
		}
	}
	r := call(newServer(t, o), "GET", "/health", "")
	if r.Code != http.StatusOK {
		t.Errorf("a degraded node serves, but the status is %d", r.Code)
	}
	const want = `{"status":"degraded","reasons":["disk nearly full"],"node_id":"7","node_name":"n1","version":"v1","role":"master",` +
		`"uptime_seconds":1.5,"vbuckets":[{"database":"default","vbucket":"default","mode":"raft","state":"serving","is_leader":true,` +
		`"leader":"a:1","term":3,"commit_index":9,"applied_index":8,"lag_changes":1,"lag_seconds":0.5,` +
		`"peers":[{"id":"2","address":"b:1","healthy":true}]}],"disk":{"free_bytes":10,"total_bytes":100,"reserve_bytes":5}}`
	if got := compact(t, r.Body.String()); got != want {
		t.Errorf("document:\n got %s\nwant %s", got, want)
	}
}

// compact drops the white space of a JSON document.
func compact(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	var document json.RawMessage
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	encoder := json.NewEncoder(&out) // compacts raw messages
	if err := encoder.Encode(document); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func TestHealthStatusAndEmptyLists(t *testing.T) {
	for status, code := range map[Status]int{Healthy: 200, Degraded: 200, Unhealthy: 503} {
		o := options()
		o.Health = func(context.Context) Health { return Health{Status: status, VBuckets: []VBucket{{}}} }
		r := call(newServer(t, o), "GET", "/health", "")
		if r.Code != code {
			t.Errorf("%s: status %d, want %d", status, r.Code, code)
		}
		if strings.Contains(r.Body.String(), "null") {
			t.Errorf("%s: an empty list is null: %s", status, r.Body)
		}
	}
	o := options()
	if r := call(newServer(t, o), "GET", "/health", ""); strings.Contains(r.Body.String(), "null") {
		t.Errorf("no vBuckets: %s", r.Body)
	}
}

func TestProbes(t *testing.T) {
	var engine error
	o := options()
	o.Live = []Check{{Name: "ping", Probe: func(context.Context) error { return nil }}}
	o.Ready = []Check{
		{Name: "engine", Probe: func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("a check may take for ever")
			}
			return engine
		}},
		{Name: "drain", Probe: func(context.Context) error { return nil }},
	}
	s := newServer(t, o)
	tests := []struct {
		path   string
		engine error
		code   int
		body   string
	}{
		{"/livez", nil, 200, "ok\n"},
		{"/livez", errors.New("broken"), 200, "ok\n"}, // not live's concern
		{"/livez?verbose", nil, 200, "[+]ping ok\nlivez check passed\n"},
		{"/readyz", nil, 200, "ok\n"},
		{"/readyz?verbose", nil, 200, "[+]engine ok\n[+]drain ok\nreadyz check passed\n"},
		{"/readyz", errors.New("boot\nstrapping"), 503, "[-]engine failed: boot strapping\n[+]drain ok\nreadyz check failed\n"},
		{"/readyz?verbose=true", errors.New("broken"), 503, "[-]engine failed: broken\n[+]drain ok\nreadyz check failed\n"},
	}
	for _, tt := range tests {
		engine = tt.engine
		if r := call(s, "GET", tt.path, ""); r.Code != tt.code || r.Body.String() != tt.body {
			t.Errorf("%s (%v): %d %q, want %d %q", tt.path, tt.engine, r.Code, r.Body, tt.code, tt.body)
		}
	}
}
