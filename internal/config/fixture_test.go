package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// testHost is a machine that is the same everywhere.
func testHost() Host {
	return Host{
		Name:   func() (string, error) { return "node1", nil },
		Addrs:  func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.7")} },
		Memory: func() Size { return 8 * GiB },

		OpenFiles: func() int { return 1024 },
	}
}

// complete returns the defaults with everything derived on the test host.
func complete(t *testing.T) *Config {
	t.Helper()
	c := Default()
	if err := c.Complete(testHost()); err != nil {
		t.Fatal(err)
	}
	return c
}

// write puts a YAML file into a fresh directory and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads on the test host and fails the test on an error.
func load(t *testing.T, env []string, args ...string) *Config {
	t.Helper()
	inv, err := LoadOn(testHost(), args, env)
	if err != nil {
		t.Fatalf("load %q: %v", args, err)
	}
	return inv.Config
}

// Kinds of error, by the exit code that they lead to.
const (
	noError = iota
	valueError
	usageError
)

// errorKind returns the kind of an error; -1 for an unexpected one.
func errorKind(err error) int {
	var usage *UsageError
	var wrong *ValueError
	switch {
	case err == nil:
		return noError
	case errors.As(err, &usage):
		return usageError
	case errors.As(err, &wrong):
		return valueError
	default:
		return -1
	}
}
