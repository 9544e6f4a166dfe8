package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/dkvdb/dkv/internal/kv"
)

// A vBucket holds the keys that hash to it, of as many vBuckets as its database is cut
// into. Its backup means something only in a vBucket with the same keys: in one that
// holds others, keys would be missing, and others would never be found.

// Layout is which part of a database a vBucket is.
type Layout struct {
	VBucket string
	// VBuckets is how many the database is cut into; 0 in a backup of a release that
	// did not say.
	VBuckets int
}

// Check reads what the backup at dir says of itself, and refuses it with a kv.NotFound or
// kv.Precondition if it is not one that into can be restored from. It reads no data.
func Check(dir string, into Layout) error {
	m, err := readManifest(dir)
	if err != nil {
		return err
	}
	of := Layout{m.VBucket, m.VBuckets}
	switch {
	case of.VBuckets == 0 && of.VBucket == into.VBucket, of.VBuckets == 1 && into.VBuckets == 1, of == into:
		return nil
	case of.VBuckets == 0:
		return kv.Errorf(kv.Precondition, "backup %s is of vBucket %s and does not say of how many; vBucket %s would not have its keys: "+
			"restore it to a node whose vBucket has that name", dir, of.VBucket, into.VBucket)
	case of.VBuckets != into.VBuckets:
		return kv.Errorf(kv.Precondition, "backup %s is vBucket %s of %d of database %s, and the database here has %d: keys would be missing. "+
			"Restore all of its vBuckets to nodes with vbuckets: %d, and copy the keys from there", dir, of.VBucket, of.VBuckets, m.Database, into.VBuckets, of.VBuckets)
	default:
		return kv.Errorf(kv.Precondition, "backup %s is vBucket %s of %d and cannot be vBucket %s, which has other keys: put the folders of the backup back under their own names",
			dir, of.VBucket, of.VBuckets, into.VBucket)
	}
}

// noBackup is the error of a folder without a manifest. If it holds the backups of
// several vBuckets, it says so.
func noBackup(dir string) error {
	inside := 0
	folders, _ := os.ReadDir(dir) // one that cannot be read holds none
	for _, f := range folders {
		if IsOne(filepath.Join(dir, f.Name())) {
			inside++
		}
	}
	if inside == 0 {
		return kv.Errorf(kv.NotFound, "there is no backup at %s (no %s)", dir, manifestFile)
	}
	return kv.Errorf(kv.Precondition, "%s holds backups of %d vBuckets, each in a folder, and is none itself: restore it to nodes with as many vbuckets", dir, inside)
}

// IsOne reports whether dir is the backup of one vBucket.
func IsOne(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, manifestFile))
	return err == nil
}

// pathError is the error of a path that a request has named: if it cannot be used, that
// is not the server's failure.
func pathError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return kv.Errorf(kv.Invalid, "path %s leads through a file; name a folder below backup-dir", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return kv.Errorf(kv.Invalid, "path %s cannot be used by the user that dkvsrv runs as (%w); choose another one, or give that user the folder", path, err)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL):
		return kv.Errorf(kv.Invalid, "path %s cannot be used (%w); choose another one", path, err)
	default:
		return fmt.Errorf("backup: %w", err)
	}
}
