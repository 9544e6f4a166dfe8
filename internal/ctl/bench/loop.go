package bench

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dkvdb/dkv/internal/sleep"
)

// operation is what one worker does over and over. It keeps its request and
// response between calls, so it serves one goroutine.
type operation interface {
	do(ctx context.Context) (effect, error)
}

// plan is what the workers of one run share.
type plan struct {
	start time.Time
	end   time.Time // zero: no end but count
	count uint64    // 0: no end but end
	rate  float64   // 0: closed loop
	next  atomic.Uint64
	// stop, unless nil, ends the run at an unavailable server.
	stop func(error)
}

// take returns the number of the next operation, or false if there is none.
func (p *plan) take() (uint64, bool) {
	n := p.next.Add(1) - 1
	return n, p.count == 0 || n < p.count
}

func (p *plan) over(now time.Time) bool { return !p.end.IsZero() && !now.Before(p.end) }

// intended is when operation n of an open loop should begin.
func (p *plan) intended(n uint64) time.Time {
	return p.start.Add(time.Duration(math.Round(float64(n) / p.rate * float64(time.Second))))
}

// skip takes all operations that an open loop with an end has left, and returns how many: at a high rate to
// take one after the other would go on for long.
func (p *plan) skip() uint64 {
	all := uint64(math.Ceil(p.end.Sub(p.start).Seconds() * p.rate))
	if p.count > 0 {
		all = min(all, p.count)
	}
	next := p.next.Swap(max(all, p.next.Load()))
	return all - min(all, next)
}

// worker runs one operation after another.
type worker struct {
	plan  *plan
	op    operation
	rec   *recorder
	limit *opLimit
}

// retryPause is how long a worker waits after it met an unavailable server.
const retryPause = 20 * time.Millisecond

// closedLoop begins an operation as soon as the last one has ended. The clock
// is read once an operation: the end of one is the beginning of the next.
func (w *worker) closedLoop(ctx context.Context) {
	now := time.Now()
	for ctx.Err() == nil && !w.plan.over(now) {
		if w.plan.count > 0 {
			if _, ok := w.plan.take(); !ok {
				return
			}
		}
		now = w.one(ctx, now, now)
	}
}

// openLoop begins operations when the plan says, or as soon after as a worker
// is free, and measures all of them from the intended beginning.
func (w *worker) openLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		n, ok := w.plan.take()
		if !ok {
			return
		}
		intended := w.plan.intended(n)
		if w.plan.over(intended) {
			return
		}
		now := time.Now()
		if wait := intended.Sub(now); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			now = time.Now()
		}
		if w.plan.over(now) {
			w.rec.missed += 1 + w.plan.skip()
			return
		}
		recordLatency(w.rec.delay, now.Sub(intended))
		w.one(ctx, now, intended)
	}
}

// one runs one operation and records it. It returns when it ended.
func (w *worker) one(ctx context.Context, now, intended time.Time) time.Time {
	e, err := w.op.do(w.limit.begin(now))
	ended := time.Now()
	err = w.limit.end(err)
	if err == nil {
		w.rec.success(e, ended.Sub(intended), !w.plan.over(ended))
		w.rec.lastEnd = ended
		return ended
	}
	if ctx.Err() != nil {
		return ended // interrupted by us: neither success nor failure
	}
	w.rec.failure(err)
	w.rec.lastEnd = ended
	if status.Code(err) == codes.Unavailable {
		if w.plan.stop != nil {
			w.plan.stop(err)
			return ended
		}
		sleep.For(ctx, retryPause)
		return time.Now()
	}
	return ended
}
