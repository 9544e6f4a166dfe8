package raft

import (
	"crypto/md5"
	"os"
	"path/filepath"
	"testing"

	"github.com/lni/dragonboat/v4/raftpb"
)

// A log goes on when the machine has got another name, as a container does that is created again.
func TestRaftGoesOnUnderAnotherHostName(t *testing.T) {
	c := newCluster(t, 1)
	c.put("k", "v")
	n := c.owner()
	n.kill()
	dir := filepath.Join(n.path, "raft")
	renameMachine(t, dir, "former")
	n.start()
	c.want("k", "v")
	c.put("k", "w")
	n.kill()
	if _, err := os.Stat(filepath.Join(dir, "former", "wal")); err == nil {
		t.Error("the log is where it was")
	}
	n.start()
	c.want("k", "w")
}

// renameMachine makes the log of a node that does not run one of a machine of another name, and
// leaves what a start under this one's left there that rejected it.
func renameMachine(t *testing.T, dir, name string) {
	t.Helper()
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, own), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, name, "*"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs: %q, %v", logs, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, own, filepath.Base(logs[0]), "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(dir, "dragonboat.ds")
	raw, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	var status raftpb.RaftDataStatus
	if err := status.Unmarshal(raw[8:]); err != nil || status.Hostname != own {
		t.Fatalf("noted for %q, %v", status.Hostname, err)
	}
	status.Hostname = name
	if raw, err = status.Marshal(); err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(raw)
	if err := os.WriteFile(note, append(sum[8:], raw...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What Dragonboat notes beside a log is not written whole: a crash may leave a part of it.
func TestRaftGoesOnAfterACrashWhileItWasNoted(t *testing.T) {
	for _, name := range []string{"dragonboat.ds", "NODEHOST.ID"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 1)
			c.put("k", "v")
			n := c.owner()
			note := filepath.Join(n.path, "raft", name)
			raw, err := os.ReadFile(note)
			if err != nil {
				t.Fatal(err)
			}
			for _, length := range []int{0, 8, len(raw) - 1} {
				n.kill()
				if err := os.WriteFile(note, raw[:length], 0o600); err != nil {
					t.Fatal(err)
				}
				n.start()
				c.want("k", "v")
			}
		})
	}
}
