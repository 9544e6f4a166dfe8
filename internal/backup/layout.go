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

// Which keys a vBucket holds depends on how many vBuckets its database has. Its backup can
// be restored only to a vBucket with the same keys: in another one, keys would be missing, and
// others would never be found.

// Layout says which part of a database a vBucket is.
type Layout struct {
	VBucket string
	// VBuckets is how many vBuckets the database has, and 0 in a backup of a release that
	// did not record it.
	VBuckets int
}

// Check reads the manifest of the backup at dir, and rejects it with a kv.NotFound or
// kv.Precondition if it cannot be restored to the vBucket into. It reads no data.
func Check(dir string, into Layout) (Part, error) {
	m, err := readManifest(dir)
	if err != nil {
		return Part{}, err
	}
	return Part{dir, m.Info}, m.fits(dir, into)
}

func (m *Manifest) fits(dir string, into Layout) error {
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

// noBackup returns the error for a folder without a manifest. If it holds the backups of
// several vBuckets, the error says so.
func noBackup(dir string) error {
	inside, others := 0, 0
	folders, _ := os.ReadDir(dir) // if it cannot be read, there are none
	for _, f := range folders {
		if part := filepath.Join(dir, f.Name()); !IsOne(part) {
			continue
		} else if m, err := readManifest(part); err == nil && !m.isPart(f.Name()) {
			others++
		} else {
			inside++
		}
	}
	switch {
	case others > 0:
		return kv.Errorf(kv.NotFound, "there is no backup at %s (no %s), but %d in it: name one of them", dir, manifestFile, others)
	case inside == 0:
		return kv.Errorf(kv.NotFound, "there is no backup at %s (no %s)", dir, manifestFile)
	}
	return kv.Errorf(kv.Precondition, "%s holds backups of %d vBuckets, each in a folder, and is none itself: restore it to nodes with as many vbuckets", dir, inside)
}

// IsOne reports whether dir is the backup of one vBucket.
func IsOne(dir string) bool {
	info, err := os.Lstat(filepath.Join(dir, manifestFile))
	return err == nil && !info.IsDir() // which is a backup of that name
}

// pathError returns the error for the path of a request. That it cannot be used is the
// request's fault and not the server's.
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
