package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/dkvdb/dkv/internal/ctl/bench/procs"
)

// Target is a server, or several that are one database.
type Target struct {
	// Name says in results which it is.
	Name string
	// Conns carry the requests; worker i uses connection i modulo their number.
	Conns []grpc.ClientConnInterface
	// Processes are those of the servers if they run on this machine and what they use is
	// to be measured; otherwise nil.
	Processes *procs.Set
}

// Progress prints how far a run is.
type Progress struct {
	// Out receives a line after each Interval; nothing is written where Out is
	// nil or Interval is 0.
	Out      io.Writer
	Interval time.Duration
}

// ErrStopped is returned, with the result so far, by a run that met an
// unavailable server while Config.StopOnError was set.
var ErrStopped = errors.New("stopped at the first unavailable server")

// Run preloads, warms up and measures. When ctx is done it returns what it has
// measured so far together with the context's error.
func Run(ctx context.Context, cfg Config, target Target, progress Progress) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	w := newWorkload(&cfg)
	if cfg.Preload {
		if err := preload(ctx, w, target); err != nil {
			return nil, err
		}
	}
	if err := warmUp(ctx, w, target); err != nil {
		return nil, err
	}
	return measure(ctx, w, target, progress)
}

// warmUp runs the load unmeasured: connections grow their windows, caches fill.
func warmUp(ctx context.Context, w *workload, target Target) error {
	if w.cfg.Warmup == 0 {
		return nil
	}
	cfg := *w.cfg
	cfg.Duration, cfg.Count = cfg.Warmup, 0
	warm := *w
	warm.cfg = &cfg
	_, err := measure(ctx, &warm, target, Progress{})
	return err
}

// measure runs the workers until the run is over and merges what they saw.
func measure(ctx context.Context, w *workload, target Target, progress Progress) (*Result, error) {
	cfg := w.cfg
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := &plan{count: cfg.Count, rate: cfg.Rate}
	if cfg.StopOnError {
		p.stop = func(err error) { cancel(fmt.Errorf("%w: %w", ErrStopped, readable(err))) }
	}
	workers := newWorkers(runCtx, w, target, p)
	used, err := startUse(target.Processes)
	if err != nil {
		return nil, err
	}
	p.start = time.Now()
	if cfg.Duration > 0 {
		p.end = p.start.Add(cfg.Duration)
	}
	runWorkers(runCtx, workers, cfg, p, progress)
	server, err := used.end()

	total := newRecorder(len(w.classes), cfg.Rate > 0)
	for _, one := range workers {
		one.limit.close()
		total.merge(one.rec)
	}
	result := newResult(w, target, p, total)
	if err != nil {
		return result, err
	}
	result.Server = server.perOperation(result.Operations)
	if runCtx.Err() == nil {
		return result, nil
	}
	return result, context.Cause(runCtx)
}

func newWorkers(ctx context.Context, w *workload, target Target, p *plan) []*worker {
	workers := make([]*worker, w.cfg.Workers)
	for i := range workers {
		workers[i] = &worker{
			plan:  p,
			op:    w.operation(target.Conns[i%len(target.Conns)], i),
			rec:   newRecorder(len(w.classes), w.cfg.Rate > 0),
			limit: newOpLimit(ctx, w.cfg.Timeout),
		}
	}
	return workers
}

// runWorkers runs the workers, the watchdog over their time limits and the
// progress line until the workers have ended.
func runWorkers(ctx context.Context, workers []*worker, cfg *Config, p *plan, progress Progress) {
	limits := make([]*opLimit, len(workers))
	for i, w := range workers {
		limits[i] = w.limit
	}
	aroundCtx, stopAround := context.WithCancel(context.WithoutCancel(ctx))
	var around, group sync.WaitGroup
	around.Go(func() { watch(aroundCtx, limits, cfg.Timeout) })
	if progress.Out != nil && progress.Interval > 0 {
		around.Go(func() { report(aroundCtx, workers, p, progress) })
	}
	for _, w := range workers {
		group.Go(func() {
			if cfg.Rate > 0 {
				w.openLoop(ctx)
			} else {
				w.closedLoop(ctx)
			}
		})
	}
	group.Wait()
	stopAround()
	around.Wait()
}

// report writes a line of progress after each interval.
func report(ctx context.Context, workers []*worker, p *plan, progress Progress) {
	ticker := time.NewTicker(progress.Interval)
	defer ticker.Stop()
	var before uint64
	last := p.start
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			var done, failed uint64
			for _, w := range workers {
				done += w.rec.succeeded.Load()
				failed += w.rec.failed.Load()
			}
			rate := float64(done-before) / now.Sub(last).Seconds()
			fmt.Fprintf(progress.Out, "%s  %.0f/s  %d done  %d errors\n",
				now.Sub(p.start).Round(100*time.Millisecond), rate, done, failed)
			before, last = done, now
		}
	}
}
