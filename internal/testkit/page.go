package testkit

import (
	"os"
	"testing"
)

// Page checks that a generated page of the documentation is what a test has rendered, or
// writes it if update is set: the value of the test's flag -update.
func Page(t testing.TB, path, want string, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	had, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(had) != want {
		t.Errorf("%s is out of date: make reference generates it again", path)
	}
}
