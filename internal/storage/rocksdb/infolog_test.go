package rocksdb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/storage"
)

// withINI are options with raw RocksDB options over them.
func withINI(t *testing.T, dir, ini string) Options {
	t.Helper()
	o := testOptions(dir)
	o.INI = filepath.Join(t.TempDir(), "log.ini")
	if err := os.WriteFile(o.INI, []byte(ini), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// logs are the names of RocksDB's own log files in dir.
func logs(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "LOG*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// badTriggers are options that RocksDB corrects with a warning.
const badTriggers = "level0_slowdown_writes_trigger=1\n"

func TestQuietEngineHasNoLog(t *testing.T) {
	dir := t.TempDir()
	var b storage.Batch
	b.Put(storage.Data, []byte("k"), []byte("v"))
	if err := open(t, testOptions(dir)).Write(&b, true); err != nil {
		t.Fatal(err)
	}
	if names := logs(t, dir); len(names) != 0 {
		t.Errorf("an engine that has nothing to say wrote %q", names)
	}
}

func TestLogHoldsWarnings(t *testing.T) {
	dir := t.TempDir()
	open(t, withINI(t, dir, badTriggers))
	text, err := os.ReadFile(filepath.Join(dir, "LOG"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if !strings.Contains(line, "[WARN]") || !strings.Contains(line, "level0_slowdown_writes_trigger") {
		t.Errorf("the first line of LOG is %q", line)
	}
}

func TestFullLogIsRenamed(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		e, err := Open(withINI(t, dir, badTriggers+"max_log_file_size=200\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names := logs(t, dir)
	if len(names) < 2 {
		t.Errorf("there are only %q", names)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 2000 {
			t.Errorf("%s: %v bytes, %v", name, info, err)
		}
	}
}

// An ini file that asks for more than warnings gets RocksDB's own log.
func TestLogOfMoreThanWarnings(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	open(t, withINI(t, dir, "info_log_level=INFO_LEVEL\n"))
	if text, err := os.ReadFile(filepath.Join(dir, "LOG")); err != nil || !strings.Contains(string(text), "Options.") {
		t.Errorf("LOG of %d bytes, %v", len(text), err)
	}
	open(t, withINI(t, filepath.Join(dir, "other"), "db_log_dir="+elsewhere+"\n"))
	if _, err := os.Stat(filepath.Join(dir, "other", "LOG")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LOG is not only in db_log_dir: %v", err)
	}
}
