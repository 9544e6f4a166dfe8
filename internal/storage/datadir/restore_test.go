package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustOpenToRestore(t *testing.T, path string, beside ...string) *Dir {
	t.Helper()
	d, err := OpenToRestore(path, mine, beside...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// begin makes a restore's first vBucket, with something in it.
func begin(t *testing.T, d *Dir) {
	t.Helper()
	if err := d.BeginRestore("/b/one"); err != nil {
		t.Fatal(err)
	}
	g, err := d.VBucket("default")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.Current(), "000001.sst"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

const cutShort = "db-folder DIR: a restore of the backup /b/one into it was cut short, so nothing in it may be served; restore again: dkvsrv --restore-from /b/one, with the options of this node"

// From its first write to its last a folder is a restore's and of no other use, also for a release that
// does not look for the record: that misses a vBucket.
func TestUnfinishedRestore(t *testing.T) {
	path := t.TempDir()
	d := mustOpenToRestore(t, path)
	if err := d.BeginRestore("/b/one"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	wantFailure(t, path, cutShort)
	former, err := open(path, mine, func(d *Dir) error { d.claimed = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := former.VBucket("default"); err == nil || !strings.Contains(err.Error(), "was used before") {
		t.Errorf("an earlier release begins with an empty vBucket: %v", err)
	}
	former.Close()

	d = mustOpenToRestore(t, path)
	begin(t, d)
	d.Close()
	wantFailure(t, path, cutShort)
	d = mustOpenToRestore(t, path)
	if left, err := os.ReadDir(filepath.Join(path, "vbucket-default")); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	begin(t, d)
	if err := d.EndRestore(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := mustOpen(t, path).VBucket("default"); err != nil {
		t.Error(err)
	}
}

func TestRestoreNeedsAnEmptyFolder(t *testing.T) {
	for _, c := range []struct {
		made string
		free bool
	}{
		{"backups/one/MANIFEST.json", true}, {"lost+found/x", true}, {"vbucket-0/lost+found/x", true}, {"LOCK", true},
		{"vbucket-0/CURRENT", false}, {"vbucket-0/backups/MANIFEST.json", false}, {"dkv.json", false}, {"raft.json", false}, {"PROMOTION", false}, {"aside-before-era-1/x", false}, {"backup/x", false},
	} {
		path := t.TempDir()
		file := filepath.Join(path, c.made)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := OpenToRestore(path, mine, filepath.Join(path, "backups"), filepath.Join(path, "vbucket-0", "backups"))
		if (err == nil) != c.free || err != nil && !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("with %s: %v", c.made, err)
		}
		if err == nil {
			d.Close()
		}
		if raw, err := os.ReadFile(file); err != nil || string(raw) != "mine" {
			t.Errorf("%s is %q, %v", c.made, raw, err)
		}
	}
}

// A restore that is given up leaves the folders of vBuckets, which may be mounted, and nothing in them.
func TestDropRestore(t *testing.T) {
	path, disk := t.TempDir(), t.TempDir()
	if err := os.Symlink(disk, filepath.Join(path, "vbucket-default")); err != nil {
		t.Fatal(err)
	}
	d := mustOpenToRestore(t, path)
	begin(t, d)
	if err := d.DropRestore(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if left, err := os.ReadDir(disk); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
	if target, err := os.Readlink(filepath.Join(path, "vbucket-default")); err != nil || target != disk {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	mustOpenToRestore(t, path).Close()
	if err := mustOpen(t, path).Claim(); err != nil {
		t.Error(err)
	}
}
