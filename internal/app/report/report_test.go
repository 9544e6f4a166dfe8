package report

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dkvdb/dkv/internal/testkit"
)

func TestSyncTimes(t *testing.T) {
	dir := t.TempDir()
	d := Disk{Path: dir}
	d.measure(t.Context())
	if d.SyncSeconds <= 0 || d.SyncFault != "" {
		t.Errorf("%+v", d)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the probe leaves %v, %v", left, err)
	}
	gone := Disk{Path: filepath.Join(dir, "none")}
	if gone.measure(t.Context()); gone.SyncFault == "" {
		t.Error("a folder that does not exist has been measured")
	}
}

func TestBackups(t *testing.T) {
	root := t.TempDir()
	for name, manifest := range map[string]string{
		"old":            `{"format": 1, "created": "2026-01-01T00:00:00Z"}`,
		"nightly/newest": `{"format": 1, "created": "2026-01-03T00:00:00Z"}`,
		"nightly/middle": `{"format": 1, "created": "2026-01-02T00:00:00Z"}`,
		// One of two vBuckets, and one that has lost one of them since.
		"set/0":     `{"format": 2, "vbucket": "0", "vbuckets": 2, "created": "2026-01-01T01:00:00Z"}`,
		"set/1":     `{"format": 2, "vbucket": "1", "vbuckets": 2, "created": "2026-01-01T01:00:00Z"}`,
		"partial/0": `{"format": 2, "vbucket": "0", "vbuckets": 2, "created": "2026-01-05T00:00:00Z"}`,
		"damaged":   `{`,
		"nothing":   ``,
		// A copy in progress.
		".dkv-workspace-1/backup/0": `{"format": 1, "created": "2026-01-04T00:00:00Z"}`,
	} {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if manifest == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "MANIFEST.json"), []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(root, "lost+found"), 0), os.Chmod(root, 0o755)); err != nil {
		t.Fatal(err)
	}
	var b Backups
	testkit.Unprivileged(t, root, func() { b = backupsIn(root) })
	if b.Count != 4 || b.Name != filepath.Join("nightly", "newest") || !b.Last.Equal(time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)) || b.Fault != "" {
		t.Errorf("%+v", b)
	}
	if b := backupsIn(filepath.Join(root, "none")); b.Count != 0 || b.Fault != "" {
		t.Errorf("a folder that does not exist yet: %+v", b)
	}
}

func TestHost(t *testing.T) {
	h := hostOf(1024)
	if h.CPUs < 1 || h.FilesLimit != 1024 {
		t.Errorf("%+v", h)
	}
	path := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(path, []byte("MemTotal:  16 kB\nHugePages:  7\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := amounts(path); len(got) != 1 || got["MemTotal"] != 16<<10 {
		t.Errorf("%v", got)
	}
}
