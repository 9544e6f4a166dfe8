package node

import (
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// othersMay are the permissions of a folder for others than its owner.
const othersMay = 0o077

// Private takes a folder of earlier releases, which let the group in, from all but its
// owner. A folder of another owner is left as it is, since this node may be let in as one
// of the group; that is logged if everyone is. So is one that others use, such as /tmp, which a
// node was given by mistake. known reports whether this node has files in it already.
func (n *Node) Private(dir string, known bool) {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&othersMay == 0 {
		return
	}
	if info.Mode()&fs.ModeSticky != 0 || ofOthers(dir, known) {
		n.Log.Warn("this folder has files of others in it, so that its permissions stay as they are; give the node a folder of its own", "folder", dir)
		return
	}
	if err := os.Chmod(dir, info.Mode()&^othersMay); err != nil {
		if info.Mode().Perm()&0o007 != 0 {
			n.Log.Warn("other users of this host have access to this folder; take it from them with chmod o-rwx", "folder", dir, "error", err)
		}
		return
	}
	n.Log.Info("took the access of other users to this folder away", "folder", dir)
}

// ofOthers reports whether a folder has something in it that is not this node's: at its first start
// there anything but the file of its lock, and later what is another user's.
func ofOthers(dir string, known bool) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		if !known {
			return !datadir.IsLock(e.Name()) && !datadir.Kept(e.Name())
		}
		info, err := e.Info()
		if err != nil {
			return false // it is gone
		}
		of, ok := info.Sys().(*syscall.Stat_t)
		return ok && int(of.Uid) != os.Geteuid() && !datadir.Kept(e.Name())
	})
}

// warnOfSharedBackups logs that everyone has access to a folder of backups. It may be
// shared on purpose, so it stays as it is.
func (n *Node) warnOfSharedBackups() {
	dir := n.Config.Storage.BackupDir
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o007 != 0 {
		n.Log.Warn("other users of this host have access to backup-dir; take it from them with chmod o-rwx", "folder", dir)
	}
}
