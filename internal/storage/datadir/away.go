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

// renamed renames a folder; tests have it fail.
var renamed = os.Rename

// MoveAway renames a folder, which need not exist. What is in a file system that is mounted
// there, or at a folder in it, stays in that file system: in a folder of it with the name aside.
// So does what a link leads to, which stays a link, since what is written next belongs there too,
// and what may not be renamed, as in a folder of another user. A crash on the way is gone over by
// the next call.
func MoveAway(from, to, aside string) error {
	from = filepath.Clean(from) // a path that ends in a slash is that of a link's target
	if real, err := filepath.EvalSymlinks(from); err == nil && isLinkToFolder(from) {
		return moveEntries(real, filepath.Join(real, aside), aside)
	}
	err := move(from, to, aside)
	if info, lost := os.Lstat(from); lost == nil && info.IsDir() && cannotLeave(err) {
		return moveEntries(from, filepath.Join(from, aside), aside)
	}
	return err
}

func isLinkToFolder(path string) bool {
	link, err := os.Lstat(path)
	if err != nil || link.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// cannotLeave reports whether an error says that a folder has to stay where it is.
func cannotLeave(err error) bool {
	// EBUSY is that of one which is mounted there from another place of the same file system.
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EBUSY)
}

func move(from, to, aside string) error {
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
	return moveEntries(from, to, aside)
}

func moveEntries(from, to, aside string) error {
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	for _, e := range entries {
		if err == nil && !Kept(e.Name()) {
			err = move(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), aside)
		}
	}
	return errors.Join(err, durable.SyncDir(to), durable.SyncDir(from))
}

func rename(from, to string) error {
	err := durable.MkdirAll(filepath.Dir(to))
	if err == nil {
		err = renamed(from, to)
	}
	if err != nil {
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
