package node

import "os"

// othersMay are the permissions of a folder for others than its owner.
const othersMay = 0o077

// Private takes a folder of earlier releases, which let the group in, from all but its
// owner. A folder of another owner is left as it is, since this node may be let in as one
// of the group; that is logged if everyone is.
func (n *Node) Private(dir string) {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&othersMay == 0 {
		return
	}
	mode := info.Mode().Perm()
	if err := os.Chmod(dir, mode&^othersMay); err != nil {
		if mode&0o007 != 0 {
			n.Log.Warn("other users of this host have access to this folder; take it from them with chmod o-rwx", "folder", dir, "error", err)
		}
		return
	}
	n.Log.Info("took the access of other users to this folder away", "folder", dir)
}

// warnOfSharedBackups logs that everyone has access to a folder of backups. It may be
// shared on purpose, so it stays as it is.
func (n *Node) warnOfSharedBackups() {
	dir := n.Config.Storage.BackupDir
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o007 != 0 {
		n.Log.Warn("other users of this host have access to backup-dir; take it from them with chmod o-rwx", "folder", dir)
	}
}
