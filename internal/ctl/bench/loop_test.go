package bench

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// opFunc is an operation made of a function.
type opFunc func(ctx context.Context) (effect, error)

func (f opFunc) do(ctx context.Context) (effect, error) { return f(ctx) }

// takes is an operation that lasts for d, or until its context is done.
func takes(d time.Duration) opFunc {
	return func(ctx context.Context) (effect, error) {
		select {
		case <-ctx.Done():
			return effect{}, status.FromContextError(ctx.Err()).Err()
		case <-time.After(d):
			return effect{items: 1}, nil
		}
	}
}

// runLoop runs workers over op as measure does, and merges their records.
func runLoop(ctx context.Context, cfg Config, p *plan, op operation) *recorder {
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	p.start = time.Now()
	if cfg.Duration > 0 {
		p.end = p.start.Add(cfg.Duration)
	}
	p.count, p.rate = cfg.Count, cfg.Rate
	workers := make([]*worker, cfg.Workers)
	for i := range workers {
		workers[i] = &worker{plan: p, op: op, rec: newRecorder(1, cfg.Rate > 0), limit: newOpLimit(ctx, cfg.Timeout)}
	}
	runWorkers(ctx, workers, &cfg, p, Progress{})
	total := newRecorder(1, cfg.Rate > 0)
	for _, w := range workers {
		w.limit.close()
		total.merge(w.rec)
	}
	return total
}

// near allows for the precision of the histogram.
func near(got int64, want time.Duration) bool {
	diff := got - int64(want)
	return max(diff, -diff) <= int64(want)/500+int64(time.Microsecond)
}

func TestClosedLoopKeepsTheWorkersBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := runLoop(t.Context(), Config{Workers: 4, Duration: time.Second}, &plan{}, takes(10*time.Millisecond))
		if n := rec.succeeded.Load(); n != 400 {
			t.Errorf("%d operations in a second, want 400", n)
		}
		if h := rec.latency[0]; h.TotalCount() != 400 || !near(h.Max(), 10*time.Millisecond) || !near(h.Min(), 10*time.Millisecond) {
			t.Errorf("%d latencies from %d to %d ns, want 400 of 10 ms", h.TotalCount(), h.Min(), h.Max())
		}
	})
}

func TestClosedLoopEndsAtItsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := runLoop(t.Context(), Config{Workers: 8, Count: 100}, &plan{}, takes(time.Millisecond))
		if n := rec.succeeded.Load(); n != 100 {
			t.Errorf("%d operations, want 100", n)
		}
	})
}

// What ends after the run counts as an operation, but not for the throughput.
func TestLateAnswersDoNotDistortTheThroughput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &plan{}
		rec := runLoop(t.Context(), Config{Workers: 1, Duration: time.Second}, p, takes(400*time.Millisecond))
		if rec.succeeded.Load() != 3 || rec.inTime != 2 {
			t.Fatalf("%d operations, %d in time; want 3 and 2", rec.succeeded.Load(), rec.inTime)
		}
		var r Result
		r.setThroughput(p, rec)
		if r.Throughput != 2 || r.Seconds != 1 {
			t.Errorf("throughput %v over %v s, want 2 over 1", r.Throughput, r.Seconds)
		}
	})
}

func TestOpenLoopKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := runLoop(t.Context(), Config{Workers: 4, Duration: 2 * time.Second, Rate: 100}, &plan{}, takes(5*time.Millisecond))
		if n := rec.succeeded.Load(); n != 200 {
			t.Errorf("%d operations, want 200", n)
		}
		if h := rec.latency[0]; !near(h.Max(), 5*time.Millisecond) || !near(rec.delay.Max(), 0) || rec.missed != 0 {
			t.Errorf("latency up to %d ns, begun up to %d ns late, %d missed", h.Max(), rec.delay.Max(), rec.missed)
		}
	})
}

// The server stalls once, for 500 ms. With one worker and an operation due
// every 10 ms, the ones that should have begun meanwhile have waited for it, and
// their latency has to say so.
func TestOpenLoopMeasuresFromTheIntendedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		op := opFunc(func(ctx context.Context) (effect, error) {
			if first {
				first = false
				return takes(500 * time.Millisecond)(ctx)
			}
			return takes(time.Millisecond)(ctx)
		})
		rec := runLoop(t.Context(), Config{Workers: 1, Duration: 2 * time.Second, Rate: 100}, &plan{}, op)
		if n := rec.succeeded.Load(); n != 200 {
			t.Fatalf("%d operations, want 200: the backlog was not worked off", n)
		}
		// Operation i is due at 10i ms and answered at 500+i ms: those before
		// the backlog is gone waited 500-9i ms.
		h := rec.latency[0]
		if !near(h.Max(), 500*time.Millisecond) {
			t.Errorf("the longest latency is %d ns, want 500 ms", h.Max())
		}
		if p75 := h.ValueAtPercentile(75); p75 < int64(45*time.Millisecond) {
			t.Errorf("p75 is %d ns: the stall is hidden from the operations that it held up", p75)
		}
		if late := rec.delay.Max(); !near(late, 490*time.Millisecond) {
			t.Errorf("the latest operation began %d ns late, want 490 ms", late)
		}
	})
}

func TestOpenLoopTellsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := runLoop(t.Context(), Config{Workers: 1, Duration: time.Second, Rate: 100}, &plan{}, takes(100*time.Millisecond))
		done := rec.succeeded.Load()
		if done != 10 || rec.missed != 90 {
			t.Errorf("%d done and %d missed of 100 that were due, want 10 and 90", done, rec.missed)
		}
	})
}

// A rate that no server reaches leaves most of the schedule over, which is counted and not gone through.
func TestOpenLoopEndsHoweverHighItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 1e9
		rec := runLoop(t.Context(), Config{Workers: 4, Duration: 10 * time.Second, Rate: rate}, &plan{}, takes(time.Second))
		done := rec.succeeded.Load()
		if done != 40 || done+rec.missed != 10*rate {
			t.Errorf("%d done and %d missed of %d that were due", done, rec.missed, uint64(10*rate))
		}
	})
}

func TestOpenLoopEndsAtItsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := runLoop(t.Context(), Config{Workers: 2, Count: 50, Rate: 1000}, &plan{}, takes(time.Millisecond))
		if n := rec.succeeded.Load(); n != 50 {
			t.Errorf("%d operations, want 50", n)
		}
	})
}

func TestAnOperationThatHangsIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		op := opFunc(func(ctx context.Context) (effect, error) {
			if calls++; calls == 2 {
				return takes(time.Hour)(ctx)
			}
			return takes(time.Millisecond)(ctx)
		})
		rec := runLoop(t.Context(), Config{Workers: 1, Count: 5, Timeout: time.Second}, &plan{}, op)
		if rec.succeeded.Load() != 4 || rec.failed.Load() != 1 {
			t.Errorf("%d done, %d failed; want 4 and 1", rec.succeeded.Load(), rec.failed.Load())
		}
		if tl := rec.errors[codes.DeadlineExceeded]; tl == nil || tl.count != 1 {
			t.Errorf("errors are %v, want one DeadlineExceeded", rec.errors)
		}
	})
}

func TestErrorsAreCountedByCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		op := opFunc(func(ctx context.Context) (effect, error) {
			calls++
			switch {
			case calls%4 == 0:
				return effect{}, status.Error(codes.ResourceExhausted, "full; not applied")
			case calls%10 == 5:
				return effect{}, errors.New("odd")
			}
			return takes(time.Millisecond)(ctx)
		})
		rec := runLoop(t.Context(), Config{Workers: 1, Count: 100}, &plan{}, op)
		got := errorCounts(rec.errors)
		want := []ErrorCount{{"ResourceExhausted", 25, "full; not applied"}, {"Unknown", 10, "odd"}}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("errors are %v, want %v", got, want)
		}
		if n := rec.succeeded.Load(); n != 65 || rec.failed.Load() != 35 {
			t.Errorf("%d done and %d failed, want 65 and 35", n, rec.failed.Load())
		}
	})
}

func TestUnavailableServers(t *testing.T) {
	down := status.Error(codes.Unavailable, "down")
	t.Run("retried after a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			op := opFunc(func(context.Context) (effect, error) { return effect{}, down })
			rec := runLoop(t.Context(), Config{Workers: 1, Count: 10}, &plan{}, op)
			if took := time.Since(began); took != 10*retryPause {
				t.Errorf("ten tries took %s, want %s", took, 10*retryPause)
			}
			if rec.failed.Load() != 10 {
				t.Errorf("%d failures counted, want 10", rec.failed.Load())
			}
		})
	})
	t.Run("stop the run when asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			var once sync.Once
			op := opFunc(func(ctx context.Context) (effect, error) {
				var err error
				once.Do(func() { err = down })
				if err != nil {
					return effect{}, err
				}
				return takes(time.Second)(ctx)
			})
			rec := runLoop(ctx, Config{Workers: 3, Count: 1000}, &plan{stop: func(err error) { cancel(err) }}, op)
			if rec.failed.Load() != 1 {
				t.Errorf("%d failures counted, want the one that stopped the run", rec.failed.Load())
			}
			if !errors.Is(context.Cause(ctx), down) {
				t.Errorf("stopped by %v", context.Cause(ctx))
			}
		})
	})
}

func TestAnInterruptIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 55*time.Millisecond)
		defer cancel()
		rec := runLoop(ctx, Config{Workers: 2, Duration: time.Hour}, &plan{}, takes(10*time.Millisecond))
		if rec.succeeded.Load() != 10 || rec.failed.Load() != 0 {
			t.Errorf("%d done, %d failed; want 10 and 0", rec.succeeded.Load(), rec.failed.Load())
		}
	})
}
