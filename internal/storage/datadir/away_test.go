package datadir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What is in a file system that is mounted in a folder stays there, in a folder of its own, and
// the rest of the folder is renamed. A second call finds nothing to do.
func TestMountedFoldersAreNotRenamed(t *testing.T) {
	for name, where := range map[string]string{"the folder": "nexus", "one in it": "nexus/log", "none": ""} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			at := func(name string) string { return filepath.Join(root, name) }
			for _, dir := range []string{"aside-x", "nexus/log", "nexus/snap", filepath.Join(where, "lost+found")} {
				if err := os.MkdirAll(at(dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for _, file := range []string{"nexus/log/1", "nexus/snap/2"} {
				if err := os.WriteFile(at(file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := mounted
			defer func() { mounted = before }()
			mounted = func(path string) bool { return where != "" && path == at(where) }
			for range 2 {
				if err := MoveAway(at("nexus"), at("aside-x/nexus"), "aside-x"); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string][]string{
				"nexus": {"nexus/aside-x/log/1", "nexus/aside-x/snap/2"}, "nexus/log": {"nexus/log/aside-x/1", "aside-x/nexus/snap/2"}, "": {"aside-x/nexus/log/1", "aside-x/nexus/snap/2"},
			}[where]
			for _, file := range want {
				if _, err := os.Stat(at(file)); err != nil {
					t.Error(err)
				}
			}
			if where == "" {
				return
			}
			if left, _ := os.ReadDir(at(where)); !slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() == "lost+found" }) {
				t.Error("what the file system keeps was moved")
			}
		})
	}
}
