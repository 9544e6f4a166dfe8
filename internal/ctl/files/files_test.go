package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNewFilesOverwriteNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := WriteNew(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(file, []byte("two"), 0o600); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Error(err)
	}
	expect(t, file, "one", 0o600)
}

func expect(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil || string(raw) != content {
		t.Errorf("%s holds %q, %v; want %q", file, raw, err, content)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
		t.Errorf("%s: %v, %v; want mode %v", file, info, err, mode)
	}
}

func TestReplacement(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for file, content := range map[string]string{a: "one", a + ".new": "of an interrupted replacement"} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(Replacement{a, []byte("two"), 0o600}, Replacement{b, []byte("new"), 0o640}); err != nil {
		t.Fatal(err)
	}
	expect(t, a, "two", 0o640) // of a mode that gives others less
	expect(t, b, "new", 0o640)
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("files are left over: %v", left)
	}
	if err := Replace(Replacement{filepath.Join(dir, "none", "c"), nil, 0o600}); err == nil {
		t.Error("a file in no folder was replaced")
	}
}

// A file keeps its mode whatever the umask is, and a link to it stays one.
func TestReplacedFilesStayWhatTheyWere(t *testing.T) {
	dir, shared := t.TempDir(), t.TempDir()
	file, link, target := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "link.yaml"), filepath.Join(shared, "auth.yaml")
	for _, name := range []string{file, target} {
		if err := errors.Join(os.WriteFile(name, []byte("one"), 0o600), os.Chmod(name, 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	defer unix.Umask(unix.Umask(0o077))
	if err := Replace(Replacement{file, []byte("two"), 0o600}, Replacement{link, []byte("three"), 0o644}); err != nil {
		t.Fatal(err)
	}
	expect(t, file, "two", 0o640)
	expect(t, target, "three", 0o640)
	if got, err := os.Readlink(link); err != nil || got != target {
		t.Errorf("the link leads to %q, %v", got, err)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if err := Replace(Replacement{link, nil, 0o600}); err == nil {
		t.Error("a link to nothing was replaced")
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Error(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close() // nothing was written
}
