package periodic

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachTaskIsCalledAtItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := Start(t.Context(), 0)
		begun := time.Now()
		var often, seldom []time.Duration
		tasks.Every(time.Second, func(context.Context) bool { often = append(often, time.Since(begun)); return false })
		tasks.Every(2*time.Second, func(context.Context) bool { seldom = append(seldom, time.Since(begun)); return false })
		time.Sleep(4*time.Second + time.Millisecond)
		tasks.Stop()
		time.Sleep(time.Minute)
		if len(often) != 4 || len(seldom) != 2 || seldom[1] != 4*time.Second || often[3] != 4*time.Second {
			t.Errorf("called after %v and %v", often, seldom)
		}
	})
}

func TestATaskIsCalledAgainWhileThereIsMoreToDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := Start(t.Context(), 0)
		defer tasks.Stop()
		calls := 0
		tasks.Every(time.Second, func(context.Context) bool { calls++; return calls%3 != 0 })
		time.Sleep(time.Second)
		synctest.Wait()
		if calls != 3 {
			t.Errorf("%d calls at the first interval", calls)
		}
	})
}

func TestASlowTaskDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := Start(t.Context(), 0)
		slow, quick := 0, 0
		tasks.Every(time.Second, func(ctx context.Context) bool { slow++; <-ctx.Done(); return true })
		tasks.Every(time.Second, func(context.Context) bool { quick++; return false })
		time.Sleep(5*time.Second + time.Millisecond)
		if slow != 1 || quick != 5 {
			t.Errorf("%d calls of the slow task, %d of the quick one", slow, quick)
		}
		tasks.Stop() // ends the slow call's context, and waits for it
		if slow != 1 {
			t.Errorf("the slow task was called again")
		}
	})
}

func TestTasksEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tasks := Start(ctx, 0)
		calls := 0
		tasks.Every(time.Second, func(context.Context) bool { calls++; return false })
		cancel()
		time.Sleep(time.Minute)
		if calls != 0 {
			t.Errorf("%d calls after the end of the context", calls)
		}
		tasks.Stop()
		tasks.Every(time.Second, func(context.Context) bool { calls++; return false })
		time.Sleep(time.Minute)
		if calls != 0 {
			t.Errorf("%d calls after Stop", calls)
		}
	})
}

func TestWaitingTasksTakeNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	tasks := Start(t.Context(), 0)
	defer tasks.Stop()
	for range 1000 {
		tasks.Every(time.Hour, func(context.Context) bool { return false })
	}
	if now := runtime.NumGoroutine(); now > before+10 {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}
