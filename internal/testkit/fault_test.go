package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// skipping is a test that notes how it ended.
type skipping struct {
	testing.TB
	fatal, skipped string
}

func (s *skipping) Name() string { return "TestX" }

func (s *skipping) Fatalf(format string, args ...any) {
	s.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (s *skipping) Skipf(format string, args ...any) {
	s.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// skip runs SkipFault as a test would.
func skip(t *testing.T, fault string) *skipping {
	s := &skipping{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		SkipFault(s, fault, errors.New("no such device"))
	}()
	<-done
	return s
}

func TestSkippedFaultsAreReportedByName(t *testing.T) {
	report := filepath.Join(t.TempDir(), "skipped")
	t.Setenv("CI", "")
	t.Setenv("TEST_SKIPPED_FAULTS", report)
	for _, fault := range []string{"partition", "power loss"} {
		if s := skip(t, fault); s.fatal != "" || !strings.Contains(s.skipped, fault) {
			t.Errorf("%s: %q, %q", fault, s.fatal, s.skipped)
		}
	}
	raw, err := os.ReadFile(report)
	if want := "partition: no such device (TestX)\npower loss: no such device (TestX)\n"; err != nil || string(raw) != want {
		t.Errorf("reported %q, %v", raw, err)
	}
}

func TestSkippedFaultFailsCIUnlessItIsListed(t *testing.T) {
	t.Setenv("CI", "true")
	t.Setenv("TEST_SKIPPED_FAULTS", "")
	if s := skip(t, "partition"); s.skipped != "" || !strings.Contains(s.fatal, `"partition"`) || !strings.Contains(s.fatal, "make test-deps") {
		t.Errorf("%q, %q", s.fatal, s.skipped)
	}
	notEverywhere["listed"] = "for this test"
	t.Cleanup(func() { delete(notEverywhere, "listed") })
	if s := skip(t, "listed"); s.fatal != "" || s.skipped == "" {
		t.Errorf("a listed fault: %q, %q", s.fatal, s.skipped)
	}
}
