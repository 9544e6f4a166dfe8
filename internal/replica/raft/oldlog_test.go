package raft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/testkit"
)

// keepLog copies a stopped node's log and returns a function that puts it back.
func (n *node) keepLog() (putBack func()) {
	t := n.c.t
	t.Helper()
	log, older := filepath.Join(n.path, "raft"), filepath.Join(n.c.dir, fmt.Sprint("log-of-", n.id))
	if err := os.CopyFS(older, os.DirFS(log)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(os.RemoveAll(log), os.CopyFS(log, os.DirFS(older))); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRefused fails unless the node does not take part in its log, for an error that
// says so.
func (n *node) wantRefused(words ...string) {
	t := n.c.t
	t.Helper()
	if err := n.open(); err != nil {
		t.Fatal(err)
	}
	if err := n.Reached(n.reached); err != nil {
		t.Error(err)
	}
	err := n.Run(testkit.Within(t, patience)) // one that is let in runs on
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("it does not say %q: %v", w, err)
		}
	}
	if err := errors.Join(n.host.Close(), n.Close()); err != nil {
		t.Error(err)
	}
	n.Replica, n.host = nil, nil
}

// write puts keys and returns when the node's state is durable with them.
func (n *node) write(keys int) {
	t := n.c.t
	t.Helper()
	var index kv.Index
	for i := range keys {
		index = n.c.put(fmt.Sprint("k", i), "v")
	}
	n.wantAt(index, "k0", "v")
	if err := n.state.Machine().Sync(); err != nil {
		t.Fatal(err)
	}
}

// A log that was put back alone ends before the state that it has made: it would give
// new entries the numbers of those that the state has applied, and which it skips.
func TestRaftRefusesALogOlderThanItsState(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 1<<40, 1 })
	n := c.owner()
	n.write(20)
	n.kill()
	putBack := n.keepLog()
	n.start()
	n.write(30)
	n.kill()
	newest := filepath.Join(c.dir, "newest")
	if err := os.CopyFS(newest, os.DirFS(n.path)); err != nil {
		t.Fatal(err)
	}
	putBack()
	n.wantRefused("Raft log", "ends at entry", "older copy", "Put the newest one back", "-removeNode", "--nexus-join")
	if err := errors.Join(os.RemoveAll(n.path), os.CopyFS(n.path, os.DirFS(newest))); err != nil {
		t.Fatal(err)
	}
	n.start()
	c.want("k0", "v")
}

// What a restore has added to the state's indexes does not count for the log.
func TestRaftComparesLogAndStateOfARestoredCluster(t *testing.T) {
	source := newCluster(t, 1)
	for i := range 200 {
		source.put(fmt.Sprint("k", i), "v")
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := source.owner().Backup(context.Background(), backup); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 1<<40, 1 })
	n := c.owner()
	if err := n.Restore(context.Background(), backup); err != nil {
		t.Fatal(err)
	}
	if n.state.Machine().Base() == 0 {
		t.Fatal("the restore has not moved the indexes")
	}
	n.write(5)
	n.kill()
	putBack := n.keepLog()
	n.start() // the log is far shorter than the state's index
	n.write(10)
	n.kill()
	putBack()
	n.wantRefused("ends at entry")
}

// Behind a snapshot that was received the log is empty for a while, and the state is
// where it ends.
func TestRaftStartsWithAnEmptyLogBehindASnapshot(t *testing.T) {
	c := newCluster(t, 3, func(c *cluster) { c.every, c.keep = 20, 1 })
	n := c.follower()
	n.write(1)
	n.kill()
	for i := range 100 {
		c.put(fmt.Sprint("more", i), "v")
	}
	n.start()
	testkit.Eventually(t, "a snapshot was received", func() bool { return n.Stats().SnapshotsReceived > 0 })
	n.kill()
	n.start()
	index := c.put("last", "v")
	n.wantAt(index, "more99", "v")
}

func TestLogEndsBehindTheState(t *testing.T) {
	for _, c := range []struct {
		ends    logEnds
		at      uint64
		refused bool
	}{
		{logEnds{First: 1, Last: 0}, 0, false}, // new
		{logEnds{First: 1, Last: 10, Commit: 10}, 10, false},
		{logEnds{First: 1, Last: 10, Commit: 5}, 10, false}, // the note of what is decided lags
		{logEnds{First: 1, Last: 10, Commit: 10}, 11, true},
		{logEnds{First: 8, Last: 10, Commit: 10, Snapshot: 7}, 3, false},
		{logEnds{First: 8, Last: 7, Commit: 7, Snapshot: 7}, 7, false}, // behind a snapshot
		{logEnds{First: 8, Last: 7, Commit: 7, Snapshot: 7}, 3, false}, // which is still to be taken in
		{logEnds{First: 8, Last: 7, Commit: 7, Snapshot: 7}, 8, true},
		{logEnds{First: 1, Last: 0}, 1, true}, // the log is gone
	} {
		if err := c.ends.check(c.at); (err != nil) != c.refused {
			t.Errorf("%+v under a state at %d: %v", c.ends, c.at, err)
		}
	}
}

// A copy that was taken while the node ran knows of its last start, and its state fits
// its log. That it is old shows by what the node said that it had applied.
func TestRaftRefusesALogThatEndsBeforeWhatWasApplied(t *testing.T) {
	c := newCluster(t, 1, func(c *cluster) { c.every, c.keep = 1<<40, 1 })
	n := c.owner()
	n.write(20)
	n.kill()
	older := filepath.Join(c.dir, "older")
	if err := os.CopyFS(older, os.DirFS(n.path)); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.write(10)
	applied := n.Status().Applied
	n.kill()
	n.start()
	testkit.Eventually(t, "the log is opened", func() bool { return n.State() == replica.Serving })
	if err := n.Reached(applied); err != nil {
		t.Errorf("the newest disk: %v", err)
	}
	if err := n.Reached(applied + 1000); err == nil || !strings.Contains(err.Error(), "older copy") {
		t.Errorf("a disk that was further: %v", err)
	}
	n.kill()
	if err := errors.Join(os.RemoveAll(n.path), os.CopyFS(n.path, os.DirFS(older))); err != nil {
		t.Fatal(err)
	}
	n.reached = applied
	n.wantRefused(fmt.Sprint("index ", applied, " was applied here before this start"), "older copy", "-removeNode")
}
