package datadir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
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

// What a link leads to is moved there, and the link stays. So does a folder that cannot be renamed.
// A second call finds nothing to do.
func TestFoldersThatStayAreEmptied(t *testing.T) {
	for name, link := range map[string]bool{"a link": true, "in a folder of another user": false} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			from, place := filepath.Join(root, "nexus"), filepath.Join(root, "nexus")
			if link {
				place = filepath.Join(t.TempDir(), "disk")
				if err := os.Symlink(place, from); err != nil {
					t.Fatal(err)
				}
			} else {
				defer func() { renamed = os.Rename }()
				renamed = func(old, to string) error {
					if old == from {
						return &os.LinkError{Op: "rename", Old: old, New: to, Err: unix.EACCES}
					}
					return os.Rename(old, to)
				}
			}
			if err := os.MkdirAll(filepath.Join(place, "log"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(place, "log", "1"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := MoveAway(from+"/", filepath.Join(root, "nexus.aside-x"), "aside-x"); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := os.Stat(filepath.Join(place, "aside-x", "log", "1")); err != nil {
				t.Error(err)
			}
			if info, err := os.Lstat(from); err != nil || link != (info.Mode()&os.ModeSymlink != 0) {
				t.Error(info, err)
			}
			if left, err := os.ReadDir(place); err != nil || len(left) != 1 {
				t.Error(left, err)
			}
		})
	}
}
