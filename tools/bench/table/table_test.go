package table

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestRowsCanRun(t *testing.T) {
	seen := make(map[string]bool)
	for _, g := range Groups() {
		for _, row := range g.Rows {
			if err := row.Load.Validate(); err != nil {
				t.Errorf("%s: %v", row.ID, err)
			}
			if seen[row.ID] || row.Title == "" {
				t.Errorf("%s is there twice, or has no title", row.ID)
			}
			seen[row.ID] = true
			for _, s := range row.Systems {
				if !slices.Contains(g.Systems, s) {
					t.Errorf("%s needs %s, which group %s does not start", row.ID, s, g.Name)
				}
			}
			for _, target := range row.Targets {
				if !slices.Contains(row.Systems, target.Of) {
					t.Errorf("%s has a target beside %q, which is not measured", row.ID, target.Of)
				}
			}
		}
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		target Target
		text   string
		met    float64
		missed float64
	}{
		{Target{Throughput, Etcd, 2.5}, "at least 2.5 x etcd", 2.5, 2.4},
		{Target{P99, Etcd, 1}, "at most 1 x etcd", 1, 1.1},
		{Target{Measure: Failover, Bound: 1.2}, "at most 1.2", 1.2, 1.3},
	} {
		if c.target.String() != c.text || !c.target.Met(c.met) || c.target.Met(c.missed) {
			t.Errorf("%v", c.target)
		}
	}
}

// A run that was killed while it wrote goes on behind the last whole line.
func TestResultsAreResumed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	s := Settings{Rounds: 3, Seconds: 4, DKV: "v1", Date: "2026-01-01"}
	r, err := Create(path, s)
	if err != nil {
		t.Fatal(err)
	}
	for round, rate := range []float64{30, 10} {
		if err := r.Add(Result{Row: "put", System: DKV, Round: round, Values: map[Measure]float64{Throughput: rate}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"row":"put","sys`); err != nil {
		t.Fatal(err)
	}
	file.Close()

	for range 2 {
		if r, err = Open(path); err != nil {
			t.Fatal(err)
		}
		defer r.Close()
	}
	if !r.Has("put", DKV, 1) || r.Has("put", DKV, 2) || r.Has("put", Etcd, 1) {
		t.Errorf("%+v", r.All)
	}
	if err := r.Add(Result{Row: "put", System: DKV, Round: 2, Values: map[Measure]float64{Throughput: 20}}); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(path); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if spread, ok := r.Spread("put", DKV, Throughput); !ok || spread != (Spread{10, 20, 30}) {
		t.Errorf("%v", spread)
	}
	if _, ok := r.Spread("put", DKV, P99); ok {
		t.Error("it has what was not measured")
	}

	s.Date = "2026-01-02"
	if err := r.Resumable(s); err != nil {
		t.Error(err)
	}
	s.DKV = "v2"
	if r.Resumable(s) == nil {
		t.Error("results of two builds are mixed")
	}
}

func TestResultsThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results")
	if _, err := Open(path); err == nil {
		t.Error("there are none")
	}
	if err := os.WriteFile(path, []byte("{}\n{\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("the second line is broken")
	}
}
