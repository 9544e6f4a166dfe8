package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// Comparison is what Compare measured.
type Comparison struct {
	Reference Series `json:"reference"`
	Target    Series `json:"target"`
	// Ratios are the target's median divided by the reference's.
	ThroughputRatio float64 `json:"throughput_ratio"`
	P50Ratio        float64 `json:"p50_ratio"`
	P99Ratio        float64 `json:"p99_ratio"`
}

// Series is several runs against one target.
type Series struct {
	Throughput Spread `json:"throughput"` // operations a second
	P50        Spread `json:"p50_micros"`
	P99        Spread `json:"p99_micros"`
	// CPU is the servers' processor time an operation, if it was measured.
	CPU  *Spread   `json:"server_cpu_micros,omitempty"`
	Runs []*Result `json:"runs"`
}

// Spread is the least, the middle and the greatest of several measurements.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// Compare runs the reference and the target in turn, the given number of
// rounds; which of them goes first changes with each round, so that neither
// always profits from what the other leaves behind. Keys are preloaded once.
func Compare(ctx context.Context, cfg Config, reference, target Target, rounds int, progress Progress) (*Comparison, error) {
	c := &Comparison{}
	series := map[string]*Series{reference.Name: &c.Reference, target.Name: &c.Target}
	if len(series) < 2 {
		return nil, fmt.Errorf("reference and target are the same: %s", target.Name)
	}
	for round := range rounds {
		order := []Target{reference, target}
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, t := range order {
			result, err := Run(ctx, cfg, t, progress)
			if err != nil {
				return nil, fmt.Errorf("round %d against %s: %w", round+1, t.Name, err)
			}
			series[t.Name].Runs = append(series[t.Name].Runs, result)
			if progress.Out != nil && progress.Interval > 0 {
				fmt.Fprintf(progress.Out, "round %d  %s  %.0f/s\n", round+1, t.Name, result.Throughput)
			}
		}
		cfg.Preload = false
	}
	c.Reference.summarize()
	c.Target.summarize()
	c.ThroughputRatio = ratio(c.Target.Throughput.Median, c.Reference.Throughput.Median)
	c.P50Ratio = ratio(c.Target.P50.Median, c.Reference.P50.Median)
	c.P99Ratio = ratio(c.Target.P99.Median, c.Reference.P99.Median)
	return c, nil
}

func (s *Series) summarize() {
	spread := func(of func(*Result) float64) Spread {
		var all []float64
		for _, r := range s.Runs {
			all = append(all, of(r))
		}
		return spreadOf(all)
	}
	s.Throughput = spread(func(r *Result) float64 { return r.Throughput })
	s.P50 = spread(func(r *Result) float64 { return r.Latency.P50 })
	s.P99 = spread(func(r *Result) float64 { return r.Latency.P99 })
	if !slices.ContainsFunc(s.Runs, func(r *Result) bool { return r.Server == nil }) {
		cpu := spread(func(r *Result) float64 { return r.Server.CPUMicros })
		s.CPU = &cpu
	}
}

// spreadOf needs at least one measurement.
func spreadOf(all []float64) Spread {
	slices.Sort(all)
	n := len(all)
	return Spread{Min: all[0], Median: (all[(n-1)/2] + all[n/2]) / 2, Max: all[n-1]}
}

// ratio returns a/b, or 0 if b is 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// WriteText prints the comparison for people.
func (c *Comparison) WriteText(out io.Writer) error {
	t := &textWriter{out: out}
	for _, s := range []*Series{&c.Reference, &c.Target} {
		last := s.Runs[len(s.Runs)-1]
		t.linef("%s; %d rounds", last.title(), len(s.Runs))
		t.linef("  throughput  median %.0f/s  (%.0f to %.0f)", s.Throughput.Median, s.Throughput.Min, s.Throughput.Max)
		t.linef("  p50         median %s  (%s to %s)", micros(s.P50.Median), micros(s.P50.Min), micros(s.P50.Max))
		t.linef("  p99         median %s  (%s to %s)", micros(s.P99.Median), micros(s.P99.Min), micros(s.P99.Max))
		if s.CPU != nil {
			t.linef("  server CPU  median %s an operation  (%s to %s)", micros(s.CPU.Median), micros(s.CPU.Min), micros(s.CPU.Max))
		}
		s.writeTrouble(t)
	}
	t.linef("ratio to the reference: throughput %.2f  p50 %.2f  p99 %.2f", c.ThroughputRatio, c.P50Ratio, c.P99Ratio)
	return t.err
}

// writeTrouble prints what would make a comparison unfair.
func (s *Series) writeTrouble(t *textWriter) {
	var failed, unmatched, missed uint64
	for _, r := range s.Runs {
		failed += r.Failed
		unmatched += r.Unmatched
		missed += r.Missed
	}
	t.linef("  errors      %d", failed)
	for _, r := range s.Runs {
		for _, e := range r.Errors {
			t.linef("    %-18s%d: %s", e.Code, e.Count, e.Example)
		}
	}
	if unmatched > 0 {
		t.linef("  unmatched   %d", unmatched)
	}
	if missed > 0 {
		t.linef("  missed      %d", missed)
	}
}
