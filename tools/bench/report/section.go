package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/tools/bench/table"
)

// tooMuch is the share of the processors that other programs may have taken before the
// document warns of it.
const tooMuch = 0.05

// section returns what stands between the marks.
func section(r *table.Results, chart string) string {
	d := &document{results: r}
	d.setting(chart)
	groups := make(map[string]table.Group)
	for _, g := range table.Groups() {
		groups[g.Name] = g
	}
	cluster := slices.DeleteFunc(groups["cluster"].Rows, func(row table.Row) bool { return row.ChartOnly })
	d.figures("Throughput of three nodes, thousands of operations a second", cluster, table.Throughput, thousands)
	d.figures("Server time of three nodes, microseconds of CPU an operation, all nodes together", cluster, table.CPU, micros)
	d.figures("Latency of three nodes: p50, ms", cluster, table.P50, millis)
	d.figures("Latency of three nodes: p99, ms", cluster, table.P99, millis)
	d.counts(cluster)
	d.figures("Three nodes with 8 vBuckets, thousands of operations a second", groups["vbuckets"].Rows, table.Throughput, thousands)
	d.figures("One node alone, thousands of operations a second", groups["standalone"].Rows, table.Throughput, thousands)
	d.figures("Server time of one node alone, microseconds of CPU an operation", groups["standalone"].Rows, table.CPU, micros)
	d.unloaded()
	return d.b.String()
}

type document struct {
	results *table.Results
	b       strings.Builder
}

func (d *document) linef(format string, args ...any) { fmt.Fprintf(&d.b, format+"\n", args...) }

// setting says how the figures came about.
func (d *document) setting(chart string) {
	s := d.results.Settings
	d.linef("## DKV beside etcd and a bare echo\n")
	d.linef("Written by `make bench` on %s. Each figure is the median of %d rounds of %g s after %g s of warm-up, with the least and the", s.Date, s.Rounds, s.Seconds, s.Warmup)
	d.linef("greatest in brackets; the systems run beside each other and are loaded in turn. A ratio is that of two medians. Keys have %d B and", table.KeySize)
	d.linef("values %d B unless said otherwise; %d keys are chosen uniformly. Load generator and servers share the machine. The echo is a", table.ValueSize, s.Keys)
	d.linef("bare gRPC server that answers at once and stores nothing (`tools/refserver`); both clusters run with their defaults.\n")
	d.linef("| | |\n|---|---|")
	d.linef("| machine | %s |", s.Machine)
	d.linef("| fdatasync of 512 B, median | %s |", d.results.About(table.SyncRow))
	d.linef("| DKV | %s |", s.DKV)
	d.linef("| storage | %s |", d.results.About(table.RocksDBRow))
	if s.Etcd != "" {
		d.linef("| etcd | %s |", s.Etcd)
	}
	most := 0.0
	for _, one := range d.results.All {
		most = max(most, one.Others)
	}
	d.linef("| other programs | at most %.0f %% of the processors during a measurement |", most*100)
	d.linef("| command | `make bench BENCH_ROUNDS=%d BENCH_SECONDS=%g BENCH_FAILOVERS=%d` |", s.Rounds, s.Seconds, s.Failovers)
	if most > tooMuch {
		d.linef("\n**Other programs used this machine meanwhile: compare within a row only, and rather the server time than the throughput.**")
	}
	if s.Rows != "" {
		d.linef("\n**Only a part was measured: the rows that match `%s`.**", s.Rows)
	}
	d.linef("\n![Throughput against latency of put and get](%s)\n", chart)
}

// figures writes a table of one measure, with the targets for it.
func (d *document) figures(title string, rows []table.Row, m table.Measure, show func(float64) string) {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row table.Row) bool {
		_, there := d.results.Spread(row.ID, row.Systems[0], m)
		return !there
	})
	if len(rows) == 0 {
		return
	}
	systems := d.present(rows[0].Systems)
	head := []string{""}
	for _, s := range systems {
		head = append(head, string(s))
	}
	for _, s := range systems[1:] {
		head = append(head, "ratio to "+string(s))
	}
	targets := slices.ContainsFunc(rows, func(row table.Row) bool { return len(row.TargetsOf(m)) > 0 })
	if targets {
		head = append(head, "target", "reached")
	}
	d.linef("### %s\n", title)
	d.row(head)
	d.rule(len(head))
	for _, row := range rows {
		cells := d.figure(row, systems, m, show)
		if targets {
			cells = append(cells, d.judge(row, m)...)
		}
		d.row(cells)
	}
	d.linef("")
}

// present leaves out systems that were not measured.
func (d *document) present(all []table.System) []table.System {
	return slices.DeleteFunc(slices.Clone(all), func(s table.System) bool {
		return !slices.ContainsFunc(d.results.All, func(o table.Result) bool { return o.System == s })
	})
}

// figure returns the cells of a row.
func (d *document) figure(row table.Row, systems []table.System, m table.Measure, show func(float64) string) []string {
	cells := []string{row.Title}
	for _, s := range systems {
		spread, there := d.results.Spread(row.ID, s, m)
		if !there {
			cells = append(cells, "")
			continue
		}
		cells = append(cells, spreadText(spread, show))
	}
	for _, s := range systems[1:] {
		cells = append(cells, ratioText(d.ratio(row, s, m)))
	}
	return cells
}

// judge returns the cells with the targets of a row, and whether they are reached.
func (d *document) judge(row table.Row, m table.Measure) []string {
	var targets, reached []string
	for _, t := range row.TargetsOf(m) {
		targets = append(targets, t.String())
		if value, there := d.ratio(row, t.Of, m); there {
			reached = append(reached, yesNo(t.Met(value)))
		} else {
			reached = append(reached, "not measured")
		}
	}
	return []string{strings.Join(targets, ", "), strings.Join(reached, ", ")}
}

// spreadText shows the middle, and the ends if they differ.
func spreadText(s table.Spread, show func(float64) string) string {
	if s.Min == s.Max {
		return show(s.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", show(s.Median), show(s.Min), show(s.Max))
}

// ratio returns DKV's median divided by that of another system.
func (d *document) ratio(row table.Row, to table.System, m table.Measure) (float64, bool) {
	own, there := d.results.Spread(row.ID, row.Systems[0], m)
	other, too := d.results.Spread(row.ID, to, m)
	if !there || !too || other.Median == 0 {
		return 0, false
	}
	return own.Median / other.Median, true
}

// counts writes context switches and system calls.
func (d *document) counts(rows []table.Row) {
	d.linef("### Context switches, and system calls that read or write, an operation, all nodes together\n")
	systems := d.present(rows[0].Systems)
	head := []string{""}
	for _, s := range systems {
		head = append(head, string(s)+", switches", string(s)+", calls")
	}
	d.row(head)
	d.rule(len(head))
	for _, row := range rows {
		cells, there := []string{row.Title}, false
		for _, s := range systems {
			var switches, calls []float64
			for _, one := range d.results.All {
				if one.Row == row.ID && one.System == s {
					switches, calls = append(switches, one.Switches), append(calls, one.Calls)
				}
			}
			there = there || len(switches) > 0
			cells = append(cells, median(switches), median(calls))
		}
		if there {
			d.row(cells)
		}
	}
	d.linef("")
}

func median(all []float64) string {
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return fmt.Sprintf("%.1f", all[len(all)/2])
}

// unloaded writes what is measured without load.
func (d *document) unloaded() {
	systems := d.present([]table.System{table.DKV, table.Etcd})
	head := []string{""}
	for _, s := range systems {
		head = append(head, string(s))
	}
	d.linef("### Without load, and when the leader is killed\n")
	d.row(append(head, "target", "reached"))
	d.rule(len(head) + 2)
	idle := table.IdleTarget()
	d.row(d.absolute("CPU of an idle node, share of a core", table.IdleID, systems, table.IdleCPU, []table.Target{idle},
		func(v float64) string { return fmt.Sprintf("%.2f %%", v*100) }))
	kills := fmt.Sprintf("kill -9 of the leader to the first write on another node, %d times, s", d.results.Settings.Failovers)
	d.row(d.absolute(kills, table.FailoverID, systems, table.Failover, table.FailoverTargets(),
		func(v float64) string { return fmt.Sprintf("%.2f", v) }))
	d.linef("")
}

// absolute returns the cells of a row whose targets are no ratios.
func (d *document) absolute(title, id string, systems []table.System, m table.Measure, targets []table.Target, show func(float64) string) []string {
	cells := []string{title}
	var own table.Spread
	measured := false
	for _, s := range systems {
		spread, there := d.results.Spread(id, s, m)
		if !there {
			cells = append(cells, "")
			continue
		}
		if s == table.DKV {
			own, measured = spread, true
		}
		cells = append(cells, spreadText(spread, show))
	}
	var wanted, reached []string
	for _, t := range targets {
		value, of := own.Median, "median"
		if t.Measure == table.Longest {
			value, of = own.Max, "longest"
		}
		wanted = append(wanted, fmt.Sprintf("%s at most %s", of, show(t.Bound)))
		if measured {
			reached = append(reached, yesNo(t.Met(value)))
		}
	}
	return append(cells, strings.Join(wanted, ", "), strings.Join(reached, ", "))
}

func (d *document) row(cells []string) { d.linef("| %s |", strings.Join(cells, " | ")) }

func (d *document) rule(n int) { d.linef("|%s", strings.Repeat("---|", n)) }

func yesNo(met bool) string {
	if met {
		return "yes"
	}
	return "no"
}

func ratioText(ratio float64, there bool) string {
	if !there {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

// The units of the tables.
func thousands(perSecond float64) string { return fmt.Sprintf("%.1f", perSecond/1e3) }
func millis(us float64) string           { return fmt.Sprintf("%.2f", us/1e3) }
func micros(us float64) string           { return fmt.Sprintf("%.0f", us) }
