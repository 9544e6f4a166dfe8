package bench

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fillLedger puts n keys and returns the path of their ledger.
func fillLedger(t *testing.T, target Target, n uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	putLedger(t, target, n, path)
	return path
}

func putLedger(t *testing.T, target Target, n uint64, path string) *Result {
	t.Helper()
	ledger, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg := small(Put)
	cfg.Count, cfg.KeySize, cfg.Ledger = n, 32, ledger
	result, err := Run(t.Context(), cfg, target, Progress{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	return result
}

func check(t *testing.T, path string, target Target) *LedgerReport {
	t.Helper()
	report, err := Check(t.Context(), path, target, 4, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestLedgerHoldsWhatWasAcknowledged(t *testing.T) {
	server, target := startServer(t)
	path := fillLedger(t, target, 500)
	putLedger(t, target, 250, path) // a second run appends, with other keys
	if len(server.pairs) != 750 {
		t.Fatalf("the server holds %d keys, want 750 different ones", len(server.pairs))
	}
	if r := check(t, path, target); r.Acknowledged != 750 || r.Lost != 0 {
		t.Errorf("%d acknowledged, %d lost; want 750 and 0", r.Acknowledged, r.Lost)
	}
}

// TestLedgerOfAKilledRunIsContinued: its last line has no end, as the buffer is written in pieces.
func TestLedgerOfAKilledRunIsContinued(t *testing.T) {
	_, target := startServer(t)
	for _, cut := range []string{"k0000 00ff00", "k", strings.Repeat("k", 200<<10)} {
		path := fillLedger(t, target, 100)
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(cut); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		putLedger(t, target, 50, path)
		if r := check(t, path, target); r.Acknowledged != 150 || r.Lost != 0 {
			t.Errorf("after %d bytes: %d acknowledged, %d lost; want 150 and 0", len(cut), r.Acknowledged, r.Lost)
		}
	}
}

func TestLedgerLeavesOutWhatFailed(t *testing.T) {
	server, target := startServer(t)
	server.fail = func(method string) error {
		if method == "Put" && server.total()%3 == 0 {
			return status.Error(codes.Internal, "outcome unknown")
		}
		return nil
	}
	path := filepath.Join(t.TempDir(), "ledger")
	result := putLedger(t, target, 300, path)
	server.fail = nil
	if result.Operations+result.Failed != 300 || result.Failed == 0 {
		t.Fatalf("%d done, %d failed of 300", result.Operations, result.Failed)
	}
	if r := check(t, path, target); r.Acknowledged != result.Operations || r.Lost != 0 {
		t.Errorf("%d acknowledged, %d lost; want %d and 0", r.Acknowledged, r.Lost, result.Operations)
	}
}

// The check has to be able to fail.
func TestCheckFindsLostAndChangedKeys(t *testing.T) {
	server, target := startServer(t)
	path := fillLedger(t, target, 300)
	var lost, changed string
	for key := range server.pairs {
		if lost == "" {
			lost = key
			continue
		}
		changed = key
		break
	}
	delete(server.pairs, lost)
	server.pairs[changed] += "x"
	r := check(t, path, target)
	if r.Acknowledged != 300 || r.Lost != 2 {
		t.Fatalf("%d acknowledged, %d lost; want 300 and 2", r.Acknowledged, r.Lost)
	}
	named := strings.Join(r.Examples, " ")
	if !strings.Contains(named, lost) || !strings.Contains(named, changed) {
		t.Errorf("%q does not name %s and %s", named, lost, changed)
	}
}

func TestCheckWaitsForTheServer(t *testing.T) {
	server, target := startServer(t)
	path := fillLedger(t, target, 50)
	before := server.total()
	server.fail = func(string) error {
		if server.total() < before+3 {
			return status.Error(codes.Unavailable, "starting")
		}
		return nil
	}
	if r := check(t, path, target); r.Acknowledged != 50 || r.Lost != 0 {
		t.Errorf("%d acknowledged, %d lost; want 50 and 0", r.Acknowledged, r.Lost)
	}
}

// An unreachable server is an error, not a loss.
func TestCheckFailsWhereItCannotRead(t *testing.T) {
	server, target := startServer(t)
	path := fillLedger(t, target, 50)
	server.fail = func(string) error { return status.Error(codes.PermissionDenied, "no") }
	if r, err := Check(t.Context(), path, target, 4, time.Minute); err == nil {
		t.Errorf("report %+v without an error", r)
	}
}

func TestReadLedger(t *testing.T) {
	tests := []struct {
		name, text string
		want       int
		err        string
	}{
		{"empty", "", 0, ""},
		{"two lines", "k1 00ff\nk2 \n", 2, ""},
		{"a last line cut off", "k1 00ff\nk2 00", 1, ""},
		{"no value", "k1\n", 0, "line 1"},
		{"no hexadecimal", "k1 00\nk2 zz\n", 1, "line 2"},
		{"no key", " 00\n", 0, "line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			err := readLedger(strings.NewReader(tt.text), func(entry) error { n++; return nil })
			if n != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%d lines, error %v; want %d, %q", n, err, tt.want, tt.err)
			}
		})
	}
}

func TestLedgerCannotBeOpened(t *testing.T) {
	if _, err := OpenLedger(t.TempDir()); err == nil {
		t.Error("a folder was opened as a ledger")
	}
	_, target := startServer(t)
	if _, err := Check(t.Context(), filepath.Join(t.TempDir(), "none"), target, 1, time.Second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
