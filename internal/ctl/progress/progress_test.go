package progress

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// shown runs a reporter for some seconds of a bubble's time, during which a tenth of the work
// is done each second, and returns what it has written.
func shown(r Reporter, s State, seconds int) string {
	var out strings.Builder
	r.Out = &out
	begun := time.Now()
	stop := r.Run(context.Background(), func(context.Context) State {
		now := s
		now.Done = uint64(time.Since(begun).Seconds()) * s.Total / 10
		return now
	})
	time.Sleep(time.Duration(seconds)*time.Second + time.Millisecond)
	stop()
	return out.String()
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := shown(Reporter{Style: Lines, Every: 2 * time.Second}, State{Text: "copying", Total: 50000}, 5)
		if want := "copying\ncopying (40%, 5.0k/s, 6s left)\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestQuickIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := shown(Reporter{Style: Rewritten, Every: 2 * time.Second}, State{Text: "copying"}, 1); got != "" {
			t.Errorf("%q", got)
		}
		if got := shown(Reporter{Style: Lines, Every: time.Second}, State{}, 5); got != "" {
			t.Errorf("without a text: %q", got)
		}
	})
}

func TestTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := shown(Reporter{Style: Rewritten, Every: time.Second, Width: 12}, State{Text: "backup nightly", Timed: true}, 3)
		if want := "\rbackup nigh\x1b[K\rbackup nigh\x1b[K\rbackup nigh\x1b[K\r\x1b[K"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		got = shown(Reporter{Style: Rewritten, Every: time.Second}, State{Text: "backup", Timed: true}, 2)
		if want := "\rbackup: 1s so far\x1b[K\rbackup: 2s so far\x1b[K\r\x1b[K"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestDocuments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := strings.Split(strings.TrimSpace(shown(Reporter{Style: Documents, Every: time.Second}, State{Text: "copying", Total: 100}, 3)), "\n")
		var d document
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &d); err != nil || len(lines) != 3 || d.PerSecond != 10 || d.SecondsLeft != 7 || d.ElapsedSeconds != 3 {
			t.Errorf("%v: %+v of %q", err, d, lines)
		}
	})
}

// TestRateOfAnotherUnit begins again when something else is counted.
func TestRateOfAnotherUnit(t *testing.T) {
	var m meter
	begun := time.Now()
	m.measure(State{Done: 10, Total: 100}, begun)
	m.measure(State{Done: 20, Total: 100}, begun.Add(2*time.Second))
	if d := m.measure(State{Done: 1 << 20, Total: 4 << 20, Unit: "B"}, begun.Add(3*time.Second)); d.PerSecond != 0 {
		t.Errorf("%+v has the rate of two units", d)
	}
	if d := m.measure(State{Done: 2 << 20, Total: 4 << 20, Unit: "B"}, begun.Add(5*time.Second)); d.PerSecond != 1<<19 || d.SecondsLeft != 4 {
		t.Errorf("%+v", d)
	}
	if d := m.measure(State{Done: 3 << 20, Total: 9 << 20, Unit: "B", Step: "next"}, begun.Add(7*time.Second)); d.PerSecond != 0 {
		t.Errorf("%+v has the rate of two steps", d)
	}
}
