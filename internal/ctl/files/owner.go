package files

import (
	"os"
	"syscall"
)

// keepOwner gives a new file the owner of the one that it replaces, as far as this user may
// do that: root renews the files of the user that a node runs as.
func keepOwner(file, tmp string) {
	info, err := os.Stat(file)
	if err != nil {
		return // it is new
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(tmp, int(owner.Uid), int(owner.Gid)) // only root may
	}
}
