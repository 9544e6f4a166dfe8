package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/timing"
)

// TestStartErrorsSayWhatToDo: about each address that Raft cannot listen on.
func TestStartErrorsSayWhatToDo(t *testing.T) {
	for want, err := range map[string]error{
		"choose another port in nexus-node-url":                                                   fmt.Errorf("listen: %w", syscall.EADDRINUSE),
		"it is no address of this machine":                                                        &net.OpError{Op: "listen", Err: syscall.EADDRNOTAVAIL},
		`the host "db1" in nexus-node-url cannot be resolved here: correct it (getent hosts db1)`: &net.OpError{Op: "listen", Err: &net.DNSError{Name: "db1", Err: "no such host"}},
		"another reason": errors.New("another reason"),
	} {
		if got := startError("db1:9020", err).Error(); !strings.HasPrefix(got, "raft on db1:9020 (nexus-node-url): ") || !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// TestFolderOfARunningHost: a process that finds it in use changes nothing in it, as to give the log
// the name of another machine.
func TestFolderOfARunningHost(t *testing.T) {
	opts := placed(t, "another")
	lock, err := lockFolder(opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(opts)
	if err == nil {
		_ = h.Close()
	}
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), "nexus-log-dir "+opts.Dir+": it is locked by another process; stop the other dkvsrv") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(logFolder(opts, "another"), walFolder, "1.wal")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(opts.Dir, layoutFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the layout of a log that another process has open: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = lockFolder(opts.Dir); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

// TestStartErrorOfADamagedLog is not one of the address.
func TestStartErrorOfADamagedLog(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	opts := placed(t, machine)
	folder := filepath.Join(logFolder(opts, machine), walFolder)
	if err := errors.Join(os.Remove(filepath.Join(folder, "1.wal")),
		os.WriteFile(filepath.Join(folder, fmt.Sprintf("%016x.wal", 2)), bytes.Repeat([]byte("x"), 1<<10), 0o600)); err != nil {
		t.Fatal(err)
	}
	opts.Timing = timing.LAN
	h, err := Open(opts)
	if err == nil {
		_ = h.Close()
	}
	if err == nil || !strings.HasPrefix(err.Error(), "the Raft log in "+folder+" is damaged: ") {
		t.Error(err)
	}
}
