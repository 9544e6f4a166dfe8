package enginetest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// recorder is a T that notes failures instead of failing the test, so that a
// check can be seen to fail.
type recorder struct {
	*testing.T // Helper, Name, TempDir
	mu         sync.Mutex
	failures   []string
	skipped    bool
	cleanups   []func()
}

var _ T = (*recorder)(nil)

// record runs a check to its end and returns what it recorded.
func record(t *testing.T, c check, f Factory) *recorder {
	r := &recorder{T: t}
	r.alone(func() { c.run(r, f) })
	for _, clean := range slices.Backward(r.cleanups) {
		r.alone(clean)
	}
	return r
}

// alone runs f where it may end its goroutine. A panic is a failure too.
func (r *recorder) alone(f func()) {
	var group sync.WaitGroup
	group.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				r.note(fmt.Sprint("panic: ", p))
			}
		}()
		f()
	})
	group.Wait()
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Fail()                             { r.note("failed") }
func (r *recorder) FailNow()                          { r.note("failed"); runtime.Goexit() }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) Skip(...any)                       { r.SkipNow() }
func (r *recorder) Skipf(string, ...any)              { r.SkipNow() }
func (r *recorder) SkipNow()                          { r.skipped = true; runtime.Goexit() }
func (r *recorder) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
