//go:build linux

package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestThisMachineIsKnown(t *testing.T) {
	if text := Describe(t.TempDir()); strings.Contains(text, "unknown") {
		t.Error(text)
	}
	if took, err := Sync(t.TempDir()); err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
	if busy, err := BusyTime(); err != nil || busy <= 0 {
		t.Errorf("%v, %v", busy, err)
	}
}

func TestWaitingIsNotWork(t *testing.T) {
	got, err := busy("cpu  1 2 3 1000 1000 4 5 6 0 0")
	if err != nil || got != 210*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, wrong := range []string{"", "cpu 1 2", "cpu0 1 2 3 4 5 6 7 8", "cpu a 2 3 4 5 6 7 8"} {
		if _, err := busy(wrong); err == nil {
			t.Errorf("%q is accepted", wrong)
		}
	}
}

func TestRocksDBVersionIsThatOfTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "default", "1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "OPTIONS-000007"), []byte("[Version]\n  rocksdb_version=7.8.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ROCKSDB_PREFIX", "")
	if got, err := RocksDB("/proc/self/exe", filepath.Dir(dir)); err != nil || got != "RocksDB 7.8.3, the system's, linked statically" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProgramsDifferByTheirChecksum(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	var said []string
	for _, content := range []string{"a", "b"} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		text, err := Program(path, "p 1.0\nmore\n")
		if err != nil || !strings.HasPrefix(text, "p 1.0, sha256 ") {
			t.Errorf("%q, %v", text, err)
		}
		said = append(said, text)
	}
	if said[0] == said[1] {
		t.Error("two programs are described alike")
	}
}
