package files

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// keepMode gives the new file the owner and the mode of the one that it replaces, whatever the
// umask is: root, and users of the same group, renew the files of the user that a node runs as.
func (r *Replacement) keepMode() error {
	info, err := os.Stat(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is new
	}
	if err != nil {
		return err
	}
	mode := info.Mode().Perm() & (r.Mode | 0o770)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && !keepOwner(r.tmp(), owner) {
		mode = mode&^0o070 | mode&0o007<<3 // what one group may do is not for another one
	}
	return os.Chmod(r.tmp(), mode)
}

// keepOwner gives a file the owner of another one, and reports whether it has its group. Only
// root may give files to others, and other users give them to their own groups.
func keepOwner(file string, owner *syscall.Stat_t) bool {
	return os.Chown(file, int(owner.Uid), int(owner.Gid)) == nil || os.Chown(file, -1, int(owner.Gid)) == nil
}
