package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
	"github.com/dkvdb/dkv/internal/testkit"
	"github.com/dkvdb/dkv/internal/testkit/process"
)

// TestSignalsBeforeMain sends signals to a process as soon as package signals can have
// been initialised: none of them ends the process, and the reload is done once it serves.
func TestSignalsBeforeMain(t *testing.T) {
	dir := t.TempDir()
	path, err := exec.LookPath("dkvsrv")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0", "--db-folder", filepath.Join(dir, "db"))
	// The runtime then writes a line for each package that it has initialised.
	cmd.Dir, cmd.Env = dir, append(process.Environ(), "GODEBUG=inittrace=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(testkit.Patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	var log strings.Builder
	taken, serving, reloaded := false, false, false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		line := lines.Text()
		fmt.Fprintln(&log, line)
		initialised := strings.HasPrefix(line, "init ")
		if initialised && strings.HasPrefix(line, "init github.com/dkvdb/dkv/internal/app/signals ") {
			taken = true
		}
		if initialised && taken {
			for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2} {
				_ = cmd.Process.Signal(sig)
			}
		}
		serving = serving || strings.Contains(line, "msg=serving ")
		reloaded = reloaded || strings.Contains(line, "msg=reloaded")
		if serving && reloaded {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := cmd.Wait(); err != nil || !reloaded {
		t.Errorf("%v; reloaded: %v; the log:\n%s", err, reloaded, &log)
	}
}

// TestEndOfTheLogsReader has what reads the log end: the node goes on, and stops as it should.
func TestEndOfTheLogsReader(t *testing.T) {
	dir := t.TempDir()
	path, err := exec.LookPath("dkvsrv")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--listen-addr", "127.0.0.1:0", "--http-listen-addr", "127.0.0.1:0", "--db-folder", filepath.Join(dir, "db"))
	cmd.Dir, cmd.Env = dir, process.Environ()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(testkit.Patience, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	serving := false
	for lines := bufio.NewScanner(stderr); !serving && lines.Scan(); {
		serving = strings.Contains(lines.Text(), "msg=serving ")
	}
	if err := stderr.Close(); err != nil || !serving {
		t.Errorf("%v; serving: %v", err, serving)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil { // its end is in the log
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStopAtAnyPointOfAStart sends SIGTERM at ever later points of a node's start. Each
// time the node ends soon and without an error, and the earlier writes are still there.
func TestStopAtAnyPointOfAStart(t *testing.T) {
	for _, engine := range []string{"rocksdb", "badger"} {
		t.Run(engine, func(t *testing.T) {
			f := newFixture(t, t.TempDir(), "--db-engine", engine)
			for i := range 500 {
				put := &serverpb.PutRequest{Key: fmt.Appendf(nil, "key-%d", i), Value: make([]byte, 10_000)}
				if _, err := f.client().Put(context.Background(), put); err != nil {
					t.Fatal(err)
				}
			}
			f.kill() // so that there is a log to replay
			path, err := exec.LookPath("dkvsrv")
			if err != nil {
				t.Fatal(err)
			}
			for after := 0; after <= 60; after += 4 {
				n, err := launch(path, f.logPath(), f.dir, process.Environ(), f.args)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(after) * time.Millisecond)
				begun := time.Now()
				code := n.End(syscall.SIGTERM)
				if took := time.Since(begun); took > testkit.Patience/6 {
					t.Errorf("after %d ms of a start, the stop took %v", after, took)
				}
				const bySignal = -1 // before the program's own first step
				if code != 0 && code != bySignal {
					t.Errorf("after %d ms of a start: exit code %d", after, code)
				}
			}
			f.start()
			for i := range 500 {
				get := &serverpb.GetRequest{Key: fmt.Appendf(nil, "key-%d", i), ReadConsistency: serverpb.ReadConsistency_LINEARIZABLE}
				if got, err := f.client().Get(context.Background(), get); err != nil || len(got.Value) != 10_000 {
					t.Fatalf("%s: %d bytes, %v", get.Key, len(got.GetValue()), err)
				}
			}
		})
	}
}
