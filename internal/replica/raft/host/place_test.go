package host

import (
	"crypto/md5"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
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

// note notes in a folder that Dragonboat has opened its log on a machine.
func note(t *testing.T, opts Options, machine string) {
	t.Helper()
	status := raftpb.RaftDataStatus{Address: opts.Address, Hostname: machine, DeploymentId: opts.Deployment}
	raw, err := status.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(raw)
	if err := os.WriteFile(filepath.Join(opts.Dir, hostFile), append(sum[8:], raw...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A log that was opened and is gone is not begun again: the node would forget its votes.
func TestMissingLogIsRejected(t *testing.T) {
	for _, machine := range []string{"a", "b"} {
		opts := placed(t, "a")
		note(t, opts, "a")
		if err := os.Rename(filepath.Join(opts.Dir, "a"), filepath.Join(t.TempDir(), "a")); err != nil {
			t.Fatal(err)
		}
		want := "notes a Raft log, and there is none in " + logFolder(opts, "a") + ": put its folder back"
		if machine == "b" {
			want = fmt.Sprintf("there is none in %s, nor in %s, where it would be on this machine: put its folder back", logFolder(opts, "a"), logFolder(opts, "b"))
		}
		for range 2 { // nothing is changed by it
			err := settle(opts, machine)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("on %s: %v", machine, err)
			}
		}
	}
}

// What is left of a log that is gone is none.
func TestSnapshotsWithoutTheirLogAreRejected(t *testing.T) {
	opts := placed(t, "a")
	note(t, opts, "a")
	folder := logFolder(opts, "a")
	if err := os.Rename(filepath.Join(folder, walFolder), filepath.Join(folder, "snapshot-part-0")); err != nil {
		t.Fatal(err)
	}
	for _, machine := range []string{"a", "b"} {
		if err := settle(opts, machine); err == nil || !strings.Contains(err.Error(), "there is none in "+logFolder(opts, machine)+": put its folder back") {
			t.Errorf("on %s: %v", machine, err)
		}
	}
}

// A start that failed before anything was written, as on a port that is taken, may be repeated on
// another machine.
func TestLogThatWasNeverWrittenIsBegunElsewhere(t *testing.T) {
	opts := placed(t, "a")
	note(t, opts, "a")
	if err := os.Remove(filepath.Join(logFolder(opts, "a"), walFolder, "1.wal")); err != nil {
		t.Fatal(err)
	}
	for _, machine := range []string{"b", "c"} {
		if err := settle(opts, machine); err != nil {
			t.Error(err)
		}
	}
}

// The log of another node, or of another cluster's, is left as it is.
func TestLogOfAnotherNodeIsRejected(t *testing.T) {
	for _, other := range []Options{{Address: "127.0.0.1:1", Deployment: 8}, {Address: "127.0.0.1:2", Deployment: 7}} {
		opts := placed(t, "a")
		note(t, opts, "a")
		other.Dir, other.Log = opts.Dir, opts.Log
		h, err := Open(other)
		if err == nil {
			_ = h.Close()
		}
		want := fmt.Sprintf("holds the Raft log of the node 127.0.0.1:1 of the cluster %016x, and this is %s of %016x: set nexus-log-dir", 7, other.Address, other.Deployment)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", other, err)
		}
		if found, err := os.ReadDir(filepath.Join(opts.Dir, "a")); err != nil || len(found) != 1 {
			t.Errorf("beside the log there is %v, %v", found, err)
		}
	}
}

// The folder of a log may be a link to one on another disk.
func TestLinkedLogIsMoved(t *testing.T) {
	opts := placed(t, "a")
	note(t, opts, "a")
	there := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.Rename(filepath.Join(opts.Dir, "a"), there), os.Symlink(there, filepath.Join(opts.Dir, "a"))); err != nil {
		t.Fatal(err)
	}
	if err := settle(opts, "b"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(logFolder(opts, "b"), walFolder, "1.wal")); err != nil || string(got) != "a" {
		t.Errorf("%q, %v", got, err)
	}
}

// A link to the folder of a log is another name of the same log.
func TestLinkToALogIsNoOtherLog(t *testing.T) {
	for machine, link := range map[string]string{"b": "b", "a": "b", "c": "b", "z": "0"} {
		opts := placed(t, "a")
		note(t, opts, "a")
		if err := os.Symlink("a", filepath.Join(opts.Dir, link)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // also once the log was moved
			if err := settle(opts, machine); err != nil {
				t.Fatalf("on %s: %v", machine, err)
			}
			if got, err := os.ReadFile(filepath.Join(logFolder(opts, machine), walFolder, "1.wal")); err != nil || string(got) != "a" {
				t.Errorf("on %s: %q, %v", machine, got, err)
			}
		}
	}
}

// At the root of a file system there is a folder that only root may enter.
func TestLogAtTheRootOfAFileSystem(t *testing.T) {
	opts := placed(t)
	if err := errors.Join(os.Mkdir(filepath.Join(opts.Dir, "lost+found"), 0), os.Chmod(opts.Dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	testkit.Unprivileged(t, opts.Dir, func() {
		if _, err := moveLog(opts, "a"); err != nil {
			t.Error(err)
		}
	})
}

// Other things in the folder are none of the log's, backups with names like its own neither.
func TestFilesOfALog(t *testing.T) {
	opts := placed(t)
	for _, path := range []string{"lost+found", "aside-x/00000000000000000007/wal", "backups/20261123104530123456/data", "empty/00000000000000000007"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"notes", "synced-1", "synced-notes", "synced-", "backups/20261123104530123457"} {
		if err := os.WriteFile(filepath.Join(opts.Dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if has, err := HasLog(opts.Dir); has || err != nil {
		t.Errorf("it has a log, %v", err)
	}
	for _, path := range []string{"a/00000000000000000007/wal", "b/00000000000000000008/logdb-0"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	note(t, opts, "a")
	want := []string{"a/00000000000000000007", "b/00000000000000000008", hostFile, "synced-1"}
	if err := errors.Join(os.Mkdir(filepath.Join(opts.Dir, "private"), 0), os.Symlink("nothing", filepath.Join(opts.Dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "a", "b", "backups", "empty", "a/00000000000000000007", "b/00000000000000000008", "backups/20261123104530123456", "empty/00000000000000000007"} {
		if err := os.Chmod(filepath.Join(opts.Dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Unprivileged(t, opts.Dir, func() {
		if got, unread, err := Files(opts.Dir); err != nil || !slices.Equal(got, want) || !slices.Equal(unread, []string{"private"}) {
			t.Errorf("%q, without %q, %v", got, unread, err)
		}
	})
	if has, err := HasLog(filepath.Join(opts.Dir, "none")); has || err != nil {
		t.Error(err)
	}
}
