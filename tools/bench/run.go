//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/ctl/bench"
	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
	"github.com/dkvdb/dkv/internal/sleep"
	"github.com/dkvdb/dkv/tools/bench/machine"
	"github.com/dkvdb/dkv/tools/bench/systems"
	"github.com/dkvdb/dkv/tools/bench/table"
)

// Times of measuring without load.
const (
	idleFor = 10 * time.Second
	// preloadTimeout is long, since requests that preload are large.
	preloadTimeout = 30 * time.Second
	settleFor      = 3 * time.Second
)

// runner measures what is not in the results yet.
type runner struct {
	*options
	chosen  *regexp.Regexp
	results *table.Results
	out     io.Writer

	running map[table.System]*systems.System
	loaded  map[table.System]bool
}

// all measures every group. The data of a group is removed with its systems.
func (r *runner) all(ctx context.Context) error {
	for _, g := range table.Groups() {
		if err := r.group(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// present leaves out etcd if there is none.
func (r *runner) present(s table.System) bool { return s != table.Etcd || r.etcd != "" }

func (r *runner) group(ctx context.Context, g table.Group) (err error) {
	if !r.missing(g) {
		return nil
	}
	dir := filepath.Join(r.dir, "data")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	r.running, r.loaded = make(map[table.System]*systems.System), make(map[table.System]bool)
	defer func() {
		for _, s := range r.running {
			err = errors.Join(err, s.Close())
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	for _, name := range g.Systems {
		if !r.present(name) {
			continue
		}
		fmt.Fprintf(r.out, "starting %s\n", name)
		s, err := r.start(ctx, name, filepath.Join(dir, string(rune('a'+len(r.running)))))
		if err != nil {
			return err
		}
		r.running[name] = s
	}
	if err := r.describe(dir); err != nil {
		return err
	}
	for round := range r.rounds {
		if err := r.round(ctx, g, round); err != nil {
			return err
		}
	}
	return r.failover(ctx, g)
}

// start runs a system with the programs given.
func (r *runner) start(ctx context.Context, name table.System, dir string) (*systems.System, error) {
	dkvsrv := filepath.Join(r.programs, "dkvsrv")
	switch name {
	case table.DKV:
		return systems.StartDKV(ctx, name, dkvsrv, dir, 1)
	case table.DKV8:
		return systems.StartDKV(ctx, name, dkvsrv, dir, 8)
	case table.Standalone:
		return systems.StartStandalone(ctx, dkvsrv, dir)
	case table.Etcd:
		return systems.StartEtcd(ctx, r.etcd, dir)
	default:
		return systems.StartEcho(ctx, r.refserver, dir)
	}
}

// describe notes what is known only while nodes run, once.
func (r *runner) describe(dir string) error {
	if r.results.About(table.RocksDBRow) != "" {
		return nil
	}
	text, err := machine.RocksDB(filepath.Join(r.programs, "dkvsrv"), dir)
	if err != nil {
		return err
	}
	took, err := machine.Sync(r.dir)
	if err != nil {
		return err
	}
	return errors.Join(r.results.Add(table.Result{Row: table.RocksDBRow, About: text}),
		r.results.Add(table.Result{Row: table.SyncRow, About: took.Round(time.Microsecond).String()}))
}

// wanted reports whether a measurement was chosen and is not there yet.
func (r *runner) wanted(row string, s table.System, round int) bool {
	return r.present(s) && r.chosen.MatchString(row) && !r.results.Has(row, s, round)
}

// missing reports whether anything of a group is to be measured.
func (r *runner) missing(g table.Group) bool {
	for round := range r.rounds {
		for _, row := range g.Rows {
			if slices.ContainsFunc(row.Systems, func(s table.System) bool { return r.wanted(row.ID, s, round) }) {
				return true
			}
		}
	}
	return len(r.idleSystems(g, 0)) > 0 || len(r.failoverSystems(g)) > 0
}

// round measures every row on each of its systems. Which of them goes first changes with
// each row and round, so that none always profits from what another leaves behind.
func (r *runner) round(ctx context.Context, g table.Group, round int) error {
	if err := r.idle(ctx, g, round); err != nil {
		return err
	}
	for i, row := range g.Rows {
		n := len(row.Systems)
		for k := range n {
			name := row.Systems[(i+round+k)%n]
			if !r.wanted(row.ID, name, round) {
				continue
			}
			if err := r.measure(ctx, row, name, round); err != nil {
				return fmt.Errorf("%s on %s: %w", row.ID, name, err)
			}
		}
	}
	return nil
}

// measure runs one load on one system.
func (r *runner) measure(ctx context.Context, row table.Row, name table.System, round int) error {
	s := r.running[name]
	target, closeTarget, err := s.Target(ctx, row.Leader, row.Load.Workers)
	if err != nil {
		return err
	}
	defer closeTarget()
	load := row.Load
	load.Keys, load.Warmup = r.keys, warmup
	load.Duration = time.Duration(r.seconds * float64(time.Second))
	load.Preload = !r.loaded[name]
	load.Timeout = preloadTimeout
	r.loaded[name] = true
	others, err := r.others()
	if err != nil {
		return err
	}
	begun := time.Now()
	result, err := bench.Run(ctx, load, target, bench.Progress{})
	if err != nil {
		return err
	}
	if result.Operations == 0 {
		return fmt.Errorf("no operation succeeded: %v", result.Errors)
	}
	elsewhere, err := r.others()
	if err != nil {
		return err
	}
	one := table.Result{Row: row.ID, System: name, Round: round, Failed: result.Failed, Values: map[table.Measure]float64{
		table.Throughput: result.Throughput, table.CPU: result.Server.CPUMicros, table.P50: result.Latency.P50, table.P99: result.Latency.P99},
		Switches: result.Server.Switches, Others: share(elsewhere-others, time.Since(begun))}
	if result.Server.Calls != nil {
		one.Calls = *result.Server.Calls
	}
	fmt.Fprintf(r.out, "round %d  %-34s %-16s %8.0f/s  p50 %7.2f ms  p99 %7.2f ms  server %7.1f us/op  others %2.0f %%\n", round+1, row.Title, name,
		result.Throughput, result.Latency.P50/1e3, result.Latency.P99/1e3, result.Server.CPUMicros, one.Others*100)
	return r.results.Add(one)
}

// share returns a time on all processors as a share of what they could do.
func share(busy, elapsed time.Duration) float64 {
	return max(busy.Seconds()/elapsed.Seconds()/float64(runtime.NumCPU()), 0)
}

// others returns the time that the processors have worked for other programs.
func (r *runner) others() (time.Duration, error) {
	busy, err := machine.BusyTime()
	if err != nil {
		return 0, err
	}
	for _, s := range r.running {
		set, err := s.Processes()
		if err != nil {
			return 0, err
		}
		used, err := set.Read()
		if err != nil {
			return 0, err
		}
		busy -= used.CPU
	}
	return busy - machine.OwnTime(), nil
}

// idleSystems returns those of a group whose idle load is measured.
func (r *runner) idleSystems(g table.Group, round int) []table.System {
	if !slices.Contains(g.Systems, table.Etcd) {
		return nil
	}
	return slices.DeleteFunc([]table.System{table.DKV, table.Etcd}, func(s table.System) bool { return !r.wanted(table.IdleID, s, round) })
}

// idle measures what the nodes use without load, all at the same time.
func (r *runner) idle(ctx context.Context, g table.Group, round int) error {
	names := r.idleSystems(g, round)
	if len(names) == 0 {
		return nil
	}
	fmt.Fprintf(r.out, "round %d  idle for %s\n", round+1, settleFor+idleFor)
	sleep.For(ctx, settleFor)
	begun := time.Now()
	var sets []*procs.Set
	var before []procs.Usage
	for _, name := range names {
		set, err := r.running[name].Processes()
		if err != nil {
			return err
		}
		used, err := set.Read()
		if err != nil {
			return err
		}
		sets, before = append(sets, set), append(before, used)
	}
	sleep.For(ctx, idleFor)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for i, name := range names {
		used, err := sets[i].Read()
		if err != nil {
			return err
		}
		cores := used.Since(before[i]).CPU.Seconds() / time.Since(begun).Seconds() / float64(sets[i].Len())
		if err := r.results.Add(table.Result{Row: table.IdleID, System: name, Round: round, Values: map[table.Measure]float64{table.IdleCPU: cores}}); err != nil {
			return err
		}
	}
	return nil
}

// failoverSystems returns those of a group whose leader is still to be killed.
func (r *runner) failoverSystems(g table.Group) []table.System {
	if !slices.Contains(g.Systems, table.Etcd) {
		return nil
	}
	return slices.DeleteFunc([]table.System{table.DKV, table.Etcd}, func(s table.System) bool {
		return r.failovers == 0 || !r.wanted(table.FailoverID, s, r.failovers-1)
	})
}

// failover kills leaders, again and again.
func (r *runner) failover(ctx context.Context, g table.Group) error {
	for _, name := range r.failoverSystems(g) {
		for n := range r.failovers {
			if !r.wanted(table.FailoverID, name, n) {
				continue
			}
			took, err := r.running[name].Failover(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(r.out, "failover %d of %d  %s  %.2f s\n", n+1, r.failovers, name, took.Seconds())
			if err := r.results.Add(table.Result{Row: table.FailoverID, System: name, Round: n, Values: map[table.Measure]float64{table.Failover: took.Seconds()}}); err != nil {
				return err
			}
		}
	}
	return nil
}
