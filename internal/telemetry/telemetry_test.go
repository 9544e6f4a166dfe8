package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/version"
)

func TestTextLog(t *testing.T) {
	var out bytes.Buffer
	NewLogger(LogOptions{Writer: &out, Node: "n1"}).Info("serving", "addr", "127.0.0.1:8080")
	line := out.String()
	for _, want := range []string{"level=INFO", "msg=serving", "node=n1", "addr=127.0.0.1:8080"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %q", want, line)
		}
	}
	if strings.Count(line, "\n") != 1 {
		t.Errorf("not one line: %q", line)
	}
}

func TestJSONLog(t *testing.T) {
	var out bytes.Buffer
	NewLogger(LogOptions{Writer: &out, JSON: true, Node: "n1"}).Warn("disk nearly full", "free", 7)
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	for name, want := range map[string]any{"level": "WARN", "msg": "disk nearly full", "node": "n1", "free": 7.0} {
		if record[name] != want {
			t.Errorf("%s = %v, want %v", name, record[name], want)
		}
	}
	if record["time"] == nil {
		t.Error("no time")
	}
}

// Durations are written the same in both forms of the log, with their unit.
func TestDurationsHaveUnits(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		NewLogger(LogOptions{Writer: &out, JSON: asJSON}).With("every", time.Minute).WithGroup("spent").Warn("slow", "took", 12345*time.Microsecond)
		want := []string{"every=1m0s", "spent.took=12.345ms"}
		if asJSON {
			want = []string{`"every":"1m0s"`, `"spent":{"took":"12.345ms"}`}
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("no %s in %s", w, out.String())
			}
		}
	}
}

func TestNoNodeAttributeWithoutName(t *testing.T) {
	var out bytes.Buffer
	NewLogger(LogOptions{Writer: &out}).Info("starting")
	if strings.Contains(out.String(), "node=") {
		t.Errorf("an empty node is shown: %q", out.String())
	}
}

func TestLevelChangesWhileInUse(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	logger := NewLogger(LogOptions{Writer: &out, Level: level})
	logger.Debug("hidden")
	level.Set(slog.LevelDebug)
	logger.Debug("shown")
	level.Set(slog.LevelError)
	logger.Warn("hidden again")
	if got := out.String(); !strings.Contains(got, "shown") || strings.Contains(got, "hidden") {
		t.Errorf("logged %q", got)
	}
}

func TestLinesOfConcurrentWritersStayWhole(t *testing.T) {
	var out bytes.Buffer
	logger := NewLogger(LogOptions{Writer: &out, JSON: true})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 50 {
				logger.Info("line")
			}
		})
	}
	writers.Wait()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 400 {
		t.Fatalf("%d lines, want 400", len(lines))
	}
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("broken line %q", line)
		}
	}
}

func TestRegistry(t *testing.T) {
	build := version.Info{Version: "v1.2.3", Revision: "abc", GoVersion: "go1.99"}
	registry := NewRegistry(build)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	labels := make(map[string]string)
	for _, family := range families {
		seen[family.GetName()] = true
		if family.GetName() != "dkv_build_info" {
			continue
		}
		if got := len(family.GetMetric()); got != 1 {
			t.Fatalf("dkv_build_info has %d series, want 1", got)
		}
		if got := family.GetMetric()[0].GetGauge().GetValue(); got != 1 {
			t.Errorf("dkv_build_info = %v, want 1", got)
		}
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
	}
	want := map[string]string{"version": "v1.2.3", "revision": "abc", "go_version": "go1.99"}
	if !maps.Equal(labels, want) {
		t.Errorf("dkv_build_info has labels %v, want %v", labels, want)
	}
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_open_fds", "process_resident_memory_bytes"} {
		if !seen[name] {
			t.Errorf("no %s", name)
		}
	}
}

func TestRegistriesAreApart(t *testing.T) {
	a, b := NewRegistry(version.Get()), NewRegistry(version.Get())
	if a == b {
		t.Fatal("one registry for all")
	}
}
