package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the id of a user without privileges.
const nobody = 65534

// Unprivileged runs f with the file permissions of a user who is not root, even if root runs
// the tests, as in CI: root may read and write everything. dir is a folder of t.TempDir that
// f has to reach. The permissions are those of f's goroutine, and not of goroutines that f
// starts.
func Unprivileged(t testing.TB, dir string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	// Only root may enter the folder that has all of the test's folders.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	// For this thread alone: another user may not override permissions.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setfsuid(0); err != nil {
			t.Error(err)
		}
	}()
	f()
}
