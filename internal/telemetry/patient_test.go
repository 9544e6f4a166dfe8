package telemetry_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dkvdb/dkv/internal/telemetry"
)

// stuck is a writer that hangs until it is freed.
type stuck struct {
	free chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *stuck) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Split(strings.TrimSuffix(s.text.String(), "\n"), "\n")
}

// A log that nothing reads holds up what logs for a moment, once. What it can keep comes in order
// when it is read again, with the number of lines that it could not.
func TestStuckLogHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{free: make(chan struct{})}
		log := telemetry.NewLogger(telemetry.LogOptions{Writer: telemetry.NewPatient(w), Node: "n1"})
		begun := time.Now()
		const lines = 3000
		for i := range lines {
			log.Info(fmt.Sprint("line ", i), "pad", strings.Repeat("x", 1000))
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("it held up its caller for %v", d)
		}
		close(w.free)
		synctest.Wait()
		got := w.lines()
		kept := len(got) - 1
		for i, line := range got[:kept] {
			if !strings.Contains(line, fmt.Sprintf("\"line %d\"", i)) {
				t.Fatalf("line %d is %.100s", i, line)
			}
		}
		if want := fmt.Sprintf("node=n1 dropped=%d", lines-kept); kept < 900 || !strings.HasSuffix(got[kept], want) {
			t.Errorf("%d lines, and then %.200s, want %s", kept, got[kept], want)
		}
		log.Info("after")
		if got = w.lines(); !strings.Contains(got[len(got)-1], "msg=after") {
			t.Errorf("the last line is %.100s", got[len(got)-1])
		}
	})
}

// A line is written when what logs goes on: the process may end next.
func TestLinesOfALogAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a busy host may take longer than the patience
		w := &stuck{free: make(chan struct{})}
		close(w.free)
		log := telemetry.NewLogger(telemetry.LogOptions{Writer: telemetry.NewPatient(w), Level: slog.LevelInfo})
		for i := range 100 {
			log.Info("line")
			if n := len(w.lines()); n != i+1 {
				t.Fatalf("%d lines of %d", n, i+1)
			}
		}
	})
}
