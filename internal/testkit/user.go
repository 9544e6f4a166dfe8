package testkit

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is a user without privileges.
const nobody = 65534

// Unprivileged runs f with the rights to files of a user who is not root, also if
// root runs the tests, as CI does: root may read and write everything. dir is a
// folder of t.TempDir, which f may reach. Only what f does by itself is affected,
// not what goroutines do that it starts.
func Unprivileged(t testing.TB, dir string, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		f()
		return
	}
	// Only root may pass through the folder that all of the test's are in.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	// Of this thread alone: with the user, the right to override permissions goes.
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
