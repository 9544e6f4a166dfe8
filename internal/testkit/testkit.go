// Package testkit has what the tests of many packages need: waiting for other goroutines
// (Eventually, Within, Timely), running something until a test ends (Run), logs that can be read
// while they are written (Log), addresses that no other test uses (Address, Listen), copies
// of folders as a crash would leave them (Image), readings of clocks from before the machine slept
// (Suspended), and faults that a host may not be able to inject (SkipFault). Packages below it run dkvsrv as a process, make TLS certificates and
// speak gRPC without its rules.
//
// Only tests import it. It imports no other package of DKV, so that all their tests can
// import it.
package testkit

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// Patience is how long a test waits for what must happen. Only a test that fails waits so
// long, so Patience is far longer than anything takes on a busy machine.
const Patience = 3 * time.Minute

// Eventually waits until happened returns true, and ends the test if it does not
// within Patience. It must be called by the test's own goroutine.
func Eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	if !Soon(happened) {
		t.Fatalf("not within %v: %s", Patience, what)
	}
}

// Soon waits until happened returns true and reports whether it did within Patience. It calls
// happened every millisecond at first, then less and less often, so that a long wait does not
// slow down what it waits for.
func Soon(happened func() bool) bool {
	return soon(happened, 20, time.Millisecond, 50*time.Millisecond)
}

// SoonRun is Soon for a check that runs a program, of which each start costs as much as
// hundreds of calls: it runs it less often.
func SoonRun(happened func() bool) bool {
	return soon(happened, 5, 20*time.Millisecond, 400*time.Millisecond)
}

// soon pauses for a share of what it has waited, within bounds, between two calls.
func soon(happened func() bool, share time.Duration, shortest, longest time.Duration) bool {
	begun := time.Now()
	for !happened() {
		waited := time.Since(begun)
		if waited > Patience {
			return false
		}
		time.Sleep(min(max(waited/share, shortest), longest))
	}
	return true
}

// Timely repeats a check of how soon something happens until it succeeds, and fails the test
// if it does not within Patience: a machine that stalls for a moment says nothing about the
// code. The check must leave things so that it can be made again.
func Timely(t testing.TB, check func() error) {
	t.Helper()
	var err error
	if !Soon(func() bool { err = check(); return err == nil }) {
		t.Fatalf("not once within %v: %v", Patience, err)
	}
}

// Run runs f in a goroutine until the test ends, or until the returned function is called.
// Either way f's context is cancelled, Run waits until f returns, and an error of f fails the
// test.
func Run(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Within returns a context that ends after d, or with the test.
func Within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Log is a log that can be read while it is written. The zero value is empty.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Lines returns what was written, line by line, each with its newline.
func (l *Log) Lines() []string { return slices.Collect(strings.Lines(l.String())) }

// Has reports whether s was written.
func (l *Log) Has(s string) bool { return strings.Contains(l.String(), s) }

// Count returns how often s was written.
func (l *Log) Count(s string) int { return strings.Count(l.String(), s) }

// Logger writes lines of text to the log, down to the given level.
func (l *Log) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// Suspended returns a reading of the clocks as it is after the machine has slept for whole seconds: the
// wall clock has gone on since, and the monotonic one has not. Readings in a bubble of package
// synctest have no monotonic clock.
func Suspended(t testing.TB, at time.Time, d time.Duration) time.Time {
	t.Helper()
	out := at
	// A reading of both clocks begins with a word that has the wall clock's seconds above 30 bits of
	// nanoseconds.
	*(*uint64)(unsafe.Pointer(&out)) -= uint64(d/time.Second) << 30
	if at.Sub(out) != 0 || at.Round(0).Sub(out.Round(0)) != d {
		t.Fatal("package time keeps readings of clocks in another way by now")
	}
	return out
}
