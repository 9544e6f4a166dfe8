package host

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/config"
)

// formerLog returns the storage of a folder with a layout, and the folder of its log, which has so
// many databases of an earlier release.
func formerLog(t *testing.T, l layout, databases int) (s *logStorage, log string) {
	t.Helper()
	dir := t.TempDir()
	s = &logStorage{dir: dir, layout: l, log: slog.New(slog.DiscardHandler)}
	log = filepath.Join(dir, "machine", "7")
	for i := range databases {
		if err := os.MkdirAll(filepath.Join(log, fmt.Sprint("logdb-", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := saveLayout(dir, l); err != nil {
		t.Fatal(err)
	}
	return s, log
}

// wantUntouched fails unless the storage is rejected with these words, again and again.
func wantUntouched(t *testing.T, s *logStorage, log string, l layout, databases int, words string) {
	t.Helper()
	for range 2 {
		created, err := s.Create(config.NodeHostConfig{}, nil, []string{log}, nil)
		if err == nil {
			_ = created.Close()
		}
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("it does not say %q: %v", words, err)
		}
	}
	if found, err := filepath.Glob(filepath.Join(log, "logdb-*")); err != nil || len(found) != databases {
		t.Errorf("of %d databases there are %q, %v", databases, found, err)
	}
	if now, err := loadLayout(s.dir, Size{}); err != nil || now != l {
		t.Errorf("the layout is %+v, %v", now, err)
	}
}

// A log of an earlier release that was noted, and of which databases are missing, is not taken for
// one that nothing was written to: once they are put back, it is taken over.
func TestFormerLogIsIncomplete(t *testing.T) {
	l := layout{Format: pebbleFormat, Workers: 4, LogShards: 2}
	for databases := range 2 {
		s, log := formerLog(t, l, databases)
		if err := os.WriteFile(filepath.Join(s.dir, hostFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantUntouched(t, s, log, l, databases, fmt.Sprintf("(logdb-*) %d of 2 are in %s", databases, log))
	}
}

// A first start of an earlier release may have ended before it made a database.
func TestFormerLogThatNeverBegan(t *testing.T) {
	s, log := formerLog(t, layout{Format: pebbleFormat, Workers: 4, LogShards: 2}, 0)
	created, err := s.Create(config.NodeHostConfig{}, nil, []string{log}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := created.Close(); err != nil {
		t.Error(err)
	}
}

// Only what is known to have been taken over is removed.
func TestFormerLogWithoutItsLayout(t *testing.T) {
	l := Size{Cores: 2}.layout()
	s, log := formerLog(t, l, 1)
	wantUntouched(t, s, log, l, 1, "which "+filepath.Join(s.dir, layoutFile)+" knows nothing of")
}
