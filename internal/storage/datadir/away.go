package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
)

// AsideName begins the names of folders with what was set aside as a whole.
const AsideName = "aside-"

// mounted reports whether a folder is the root of a file system: it cannot be renamed.
var mounted = func(path string) bool {
	var own, parent unix.Stat_t
	return unix.Lstat(path, &own) == nil && unix.Stat(filepath.Dir(filepath.Clean(path)), &parent) == nil &&
		own.Mode&unix.S_IFMT == unix.S_IFDIR && own.Dev != parent.Dev
}

// MoveAway renames a folder, which need not exist. What is in a file system that is mounted
// there, or at a folder in it, stays in that file system: in a folder of it with the name aside.
// A crash on the way is gone over by the next call.
func MoveAway(from, to, aside string) error {
	info, err := os.Lstat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir() || !holdsMount(from):
		return rename(from, to)
	}
	if mounted(from) {
		to = filepath.Join(from, aside)
	}
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		if err == nil && !Kept(e.Name()) {
			err = MoveAway(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), aside)
		}
	}
	return errors.Join(err, durable.SyncDir(to), durable.SyncDir(from))
}

func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("%w; move %s away by hand", err, from)
	}
	return nil
}

// Kept reports whether a name in a folder is none of what the folder is for: what was set aside
// there, or what the file system itself keeps at its root.
func Kept(name string) bool { return strings.HasPrefix(name, AsideName) || name == "lost+found" }

// holdsMount reports whether a folder, or one in it, is the root of a file system.
func holdsMount(dir string) bool {
	found := false
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error { // what cannot be read cannot be renamed either
		if err == nil && e.IsDir() && mounted(path) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}
