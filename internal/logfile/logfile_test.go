package logfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func openTest(t *testing.T, maxSize int64, kept int) *File {
	t.Helper()
	f, err := Open(filepath.Join(t.TempDir(), "audit.log"), maxSize, kept)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func write(t *testing.T, f *File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if err := f.Write([]byte(line+"\n"), true); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreBoundedInSizeAndNumber(t *testing.T) {
	f := openTest(t, 10, 2)
	write(t, f, "line 1", "line 2", "line 3", "line 4", "a line that is longer than a file", "line 6")
	for name, want := range map[string]string{f.path: "line 6\n", f.numbered(1): "a line that is longer than a file\n", f.numbered(2): "line 4\n"} {
		if got := content(t, name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != fileMode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if all, err := os.ReadDir(filepath.Dir(f.path)); err != nil || len(all) != 3 {
		t.Errorf("%d files (%v)", len(all), err)
	}
	none := openTest(t, 10, 0)
	write(t, none, "line 1", "line 2")
	if got := content(t, none.path); got != "line 2\n" {
		t.Errorf("without earlier files there is %q", got)
	}
}

// Another program renames the file and has it opened again, as logrotate does.
func TestReopen(t *testing.T) {
	f := openTest(t, 0, 0)
	write(t, f, "line 1")
	if err := os.Rename(f.path, f.path+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, f, "line 2")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "line 3")
	if got := content(t, f.path+".away") + "|" + content(t, f.path); got != "line 1\nline 2\n|line 3\n" {
		t.Errorf("the files have %q", got)
	}
}

// TestRemovedFileIsMadeAgain: what is written to a file without a name is lost, and no one sees it.
// A file that was renamed gets its lines until it is told to begin another one.
func TestRemovedFileIsMadeAgain(t *testing.T) {
	f := openTest(t, 100, 1)
	write(t, f, "line 1")
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	write(t, f, "line 2", "line 3")
	if got := content(t, f.path); got != "line 2\nline 3\n" {
		t.Errorf("the file has %q", got)
	}
	if err := os.Rename(f.path, f.path+".away"); err != nil {
		t.Fatal(err)
	}
	write(t, f, "line 4")
	if got := content(t, f.path+".away"); got != "line 2\nline 3\nline 4\n" {
		t.Errorf("the renamed file has %q", got)
	}
	if err := os.RemoveAll(filepath.Dir(f.path)); err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]byte("line 5\n"), false); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("without its folder: %v", err)
	}
}

// A line never continues one that was cut off, by a crash or a full disk.
func TestLinesBeginOnTheirOwn(t *testing.T) {
	f := openTest(t, 0, 0)
	if err := os.WriteFile(f.path, []byte("whole\ncut of"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "next")
	if got := content(t, f.path); got != "whole\ncut of\nnext\n" {
		t.Errorf("the file has %q", got)
	}
}

// A file that cannot be renamed goes on, so that no line is lost.
func TestLinesSurviveARotationThatFails(t *testing.T) {
	f := openTest(t, 10, 1)
	write(t, f, "line 1")
	if err := os.Mkdir(f.numbered(1), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]byte("line 2\n"), false); err == nil {
		t.Error("the failure is not said")
	}
	if got := content(t, f.path); got != "line 1\nline 2\n" {
		t.Errorf("the file has %q", got)
	}
}

// A next file that cannot be opened costs no earlier one, however many lines come meanwhile.
func TestEarlierFilesSurviveAShortageOfDescriptors(t *testing.T) {
	f := openTest(t, 10, 2)
	write(t, f, "line 1", "line 2", "line 3")
	end := withoutDescriptors(t)
	var failed error
	for range 5 {
		failed = f.Write([]byte("more\n"), false)
	}
	end()
	if !errors.Is(failed, syscall.EMFILE) {
		t.Fatalf("a file was opened: %v", failed)
	}
	write(t, f, "line 4")
	for name, want := range map[string]string{
		f.path: "line 4\n", f.numbered(1): "line 3\n" + strings.Repeat("more\n", 5), f.numbered(2): "line 2\n",
	} {
		if got := content(t, name); got != want {
			t.Errorf("%s has %q, want %q", filepath.Base(name), got, want)
		}
	}
}

// withoutDescriptors keeps the process from opening files until end is called.
func withoutDescriptors(t *testing.T) (end func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	lowest, err := os.Open(os.DevNull) // all below it are in use
	if err != nil {
		t.Fatal(err)
	}
	now := syscall.Rlimit{Cur: uint64(lowest.Fd()), Max: before.Max}
	if err := errors.Join(lowest.Close(), syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now)); err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return end
}

// Opening a pipe would wait for its reader.
func TestPipesAreRejected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 0, 0); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("%v", err)
	}
}
