package testkit

import (
	"fmt"
	"os"
	"testing"
)

// notEverywhere lists the faults that CI may skip, by name, each with the reason. If CI cannot
// inject any other fault, the test fails, since a test suite that silently left a fault out
// would prove nothing. Elsewhere such a test is skipped and reported.
var notEverywhere = map[string]string{}

// SkipFault skips a test that needs a fault which this host cannot inject. make test lists the
// skipped faults. With CI=true in the environment the test fails instead, unless
// notEverywhere has the fault.
func SkipFault(t testing.TB, fault string, cause error) {
	t.Helper()
	if _, listed := notEverywhere[fault]; os.Getenv("CI") == "true" && !listed {
		t.Fatalf("this host cannot inject the fault %q: %v; make test-deps installs what that takes, and notEverywhere in "+
			"internal/testkit lists the faults that CI may skip", fault, cause)
	}
	if path := os.Getenv("TEST_SKIPPED_FAULTS"); path != "" {
		if err := appendLine(path, fmt.Sprintf("%s: %v (%s)", fault, cause, t.Name())); err != nil {
			t.Fatal(err)
		}
	}
	t.Skipf("SKIPPED fault: %s: %v", fault, cause)
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
