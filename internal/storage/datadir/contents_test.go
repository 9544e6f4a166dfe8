package datadir

import (
	"os"
	"path/filepath"
	"testing"
)

// A folder whose path means something as a pattern is set aside, and no other one.
func TestSetAsideConcernsItsOwnFolderOnly(t *testing.T) {
	root := t.TempDir()
	own, other := filepath.Join(root, "node[1]"), filepath.Join(root, "node1")
	for _, path := range []string{own, other} {
		if err := os.MkdirAll(filepath.Join(path, "vbucket-default"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(own, mine)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 2 {
		if err := d.SetAside("aside-x"); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(own, "aside-x", "vbucket-default"), filepath.Join(other, "vbucket-default")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(own, "vbucket-default")); err == nil {
		t.Error("the data is still in the folder")
	}
}
