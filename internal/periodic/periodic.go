// Package periodic calls functions at intervals. A function takes a goroutine only while it
// runs: thousands of them that wait cost a timer each, and no stack. What recurs comes in step
// as far as it can, because each moment at which an idle process wakes costs more than what is
// done then.
package periodic

import (
	"context"
	"sync"
	"time"
)

// Tasks are functions that are called at intervals. Intervals count from the same moment,
// so that the process wakes once for all tasks that are due at the same time.
type Tasks struct {
	ctx    context.Context
	cancel context.CancelFunc
	begun  time.Time

	mu      sync.Mutex
	stopped bool
	tasks   []*task
	// running counts the calls under way.
	running sync.WaitGroup
}

// Start returns Tasks that are called until ctx ends or Stop is called, in step with the process's
// beat. Tasks of different turns have different moments of it, so that those of thousands of logs
// are not due at once.
func Start(ctx context.Context, turn uint64) *Tasks {
	t := &Tasks{begun: time.Now()}
	if b := shared.Load(); b != nil {
		t.begun = b.of(turn)
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// Every calls step at each interval, and again at once while it reports that there is more
// to do. A call that takes longer than the interval delays only its own next one. The
// context ends when Stop is called.
func (t *Tasks) Every(interval time.Duration, step func(context.Context) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	k := &task{of: t, interval: interval, step: step}
	k.timer = time.AfterFunc(t.untilNext(interval), k.run)
	t.tasks = append(t.tasks, k)
}

// Stop has nothing called any more, and waits for the calls under way. It is idempotent.
func (t *Tasks) Stop() {
	t.cancel()
	t.mu.Lock()
	t.stopped = true
	for _, k := range t.tasks {
		k.timer.Stop()
	}
	t.mu.Unlock()
	t.running.Wait()
}

// untilNext is how long it takes to the next multiple of the interval.
func (t *Tasks) untilNext(interval time.Duration) time.Duration { return until(t.begun, interval) }

// enter reports whether a call may begin, and counts it.
func (t *Tasks) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || t.ctx.Err() != nil {
		return false
	}
	t.running.Add(1)
	return true
}

// task is one of the functions.
type task struct {
	of       *Tasks
	interval time.Duration
	step     func(context.Context) bool
	timer    *time.Timer
}

func (k *task) run() {
	if !k.of.enter() {
		return
	}
	defer k.of.running.Done()
	for k.of.ctx.Err() == nil && k.step(k.of.ctx) {
	}
	k.rearm()
}

func (k *task) rearm() {
	k.of.mu.Lock()
	defer k.of.mu.Unlock()
	if !k.of.stopped {
		k.timer.Reset(k.of.untilNext(k.interval))
	}
}
