package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/tools/bench/table"
)

// measured returns results of two rounds, in which DKV has twice etcd's throughput and half
// of everything else.
func measured(t *testing.T, withEtcd bool) *table.Results {
	t.Helper()
	s := table.Settings{Rounds: 2, Seconds: 4, Warmup: 1, Keys: 1000, Failovers: 2, Machine: "M", DKV: "dkvsrv v1", Date: "2026-01-01"}
	if withEtcd {
		s.Etcd = "etcd 3"
	}
	r, err := table.Create(filepath.Join(t.TempDir(), "results"), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	add := func(one table.Result) {
		if one.System == table.Etcd && !withEtcd {
			return
		}
		if err := r.Add(one); err != nil {
			t.Fatal(err)
		}
	}
	add(table.Result{Row: table.RocksDBRow, About: "RocksDB 7"})
	add(table.Result{Row: table.SyncRow, About: "99µs"})
	for round := range 2 {
		for _, g := range table.Groups() {
			for _, row := range g.Rows {
				for _, s := range row.Systems {
					f := 1 + float64(round)/10
					v := map[table.Measure]float64{table.Throughput: 10_000 * f, table.CPU: 100 * f, table.P50: 1000 * f, table.P99: 5000 * f}
					if s == table.Etcd {
						v = map[table.Measure]float64{table.Throughput: 5_000 * f, table.CPU: 200 * f, table.P50: 2000 * f, table.P99: 10_000 * f}
					}
					add(table.Result{Row: row.ID, System: s, Round: round, Values: v, Switches: 3, Calls: 4, Others: 0.01})
				}
			}
		}
		for _, s := range []table.System{table.DKV, table.Etcd} {
			add(table.Result{Row: table.IdleID, System: s, Round: round, Values: map[table.Measure]float64{table.IdleCPU: 0.02}})
			add(table.Result{Row: table.FailoverID, System: s, Round: round, Values: map[table.Measure]float64{table.Failover: 1 + float64(round)}})
		}
	}
	return r
}

func TestSectionHasRatiosAndTargets(t *testing.T) {
	text := section(measured(t, true), "c.svg")
	for _, want := range []string{
		"| machine | M |", "| etcd | etcd 3 |", "| storage | RocksDB 7 |", "![Throughput against latency of put and get](c.svg)",
		"| put, leader, 1 worker | 10.5 (10.0 to 11.0) | 5.2 (5.0 to 5.5) | 10.5 (10.0 to 11.0) | 2.00 | 1.00 | at least 1.3 x etcd | yes |",
		"| put, leader, 32 | 10.5 (10.0 to 11.0) | 5.2 (5.0 to 5.5) | 10.5 (10.0 to 11.0) | 2.00 | 1.00 | at least 2.5 x etcd | no |",
		"| at least 2.5 x etcd, at least 0.6 x echo | no, yes |",
		"| put, leader, 32 | 105 (100 to 110) | 210 (200 to 220) | 105 (100 to 110) | 0.50 | 1.00 | at most 0.4 x etcd | no |",
		"| put, leader, 32 | 3.0 | 4.0 | 3.0 | 4.0 | 3.0 | 4.0 |",
		"| CPU of an idle node, share of a core | 2.00 % | 2.00 % | median at most 1.00 % | no |",
		"1.50 (1.00 to 2.00) | 1.50 (1.00 to 2.00) | median at most 1.20, longest at most 2.00 | no, yes |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "leader, 96") || strings.Contains(text, "Other programs") {
		t.Errorf("it shows rows of the chart, or warns without a reason:\n%s", text)
	}
}

func TestWithoutEtcd(t *testing.T) {
	text := section(measured(t, false), "c.svg")
	if !strings.Contains(text, "|  | DKV | echo | ratio to echo | target | reached |") || strings.Contains(text, "| etcd |") {
		t.Error(text)
	}
	if !strings.Contains(text, "| 1.00 | at least 1.3 x etcd | not measured |") {
		t.Error(text)
	}
}

func TestWarnsOfOtherPrograms(t *testing.T) {
	r := measured(t, true)
	r.All[5].Others = 0.5
	if text := section(r, "c.svg"); !strings.Contains(text, "at most 50 % of the processors") || !strings.Contains(text, "**Other programs used") {
		t.Error(text)
	}
}

// A document keeps what stands around the marks.
func TestDocumentIsKeptAround(t *testing.T) {
	dir := t.TempDir()
	document, chart := filepath.Join(dir, "B.md"), filepath.Join(dir, "c.svg")
	if err := os.WriteFile(document, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Write(measured(t, true), document, chart); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte("before\n"+beginMark+"## ")) || !bytes.HasSuffix(text, []byte(endMark+"after\n")) || bytes.Contains(text, []byte("old\n")) {
		t.Errorf("%s", text)
	}
	if err := os.WriteFile(document, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(measured(t, true), document, chart); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Error(err)
	}
}

func TestChartIsWellFormed(t *testing.T) {
	empty, err := table.Create(filepath.Join(t.TempDir(), "results"), table.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	for _, r := range []*table.Results{measured(t, true), measured(t, false), empty} {
		svg := drawChart(r)
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v:\n%s", err, svg)
			}
		}
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("%s", svg)
		}
	}
	if svg := string(drawChart(measured(t, true))); strings.Count(svg, "<circle") != 5+5+1 {
		t.Errorf("%d points of DKV, want 5 of puts, 5 of gets and the legend's:\n%s", strings.Count(svg, "<circle"), svg)
	}
}
