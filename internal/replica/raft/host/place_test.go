package host

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// placed returns the options of a folder with the logs of these machines.
func placed(t *testing.T, machines ...string) Options {
	t.Helper()
	opts := Options{Dir: t.TempDir(), Address: "127.0.0.1:1", Deployment: 7, Log: slog.New(slog.DiscardHandler)}
	for _, m := range machines {
		log := filepath.Join(opts.Dir, m, "00000000000000000007", "wal")
		if err := os.MkdirAll(log, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(log, "1.wal"), []byte(m), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return opts
}

// No start can know which of two logs is the newer one.
func TestLogsOfTwoMachinesAreRejected(t *testing.T) {
	opts := placed(t, "a", "b")
	err := settle(opts, "b")
	if err == nil || !strings.Contains(err.Error(), `the Raft logs of several machines, ["a" "b"]: move all but the newest one away`) {
		t.Error(err)
	}
}

// A log is moved to the machine's name also if what was noted of the former one is gone already.
func TestMovedLogIsFoundAgain(t *testing.T) {
	opts := placed(t, "a")
	for _, machine := range []string{"b", "b", "c"} {
		if err := settle(opts, machine); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(opts.Dir, machine, "00000000000000000007", "wal", "1.wal"))
		if err != nil || string(got) != "a" {
			t.Errorf("%s: %q, %v", machine, got, err)
		}
	}
}

// A new log has no folder yet.
func TestNewLogIsNotMoved(t *testing.T) {
	opts := placed(t)
	if err := settle(opts, "a"); err != nil {
		t.Fatal(err)
	}
}
