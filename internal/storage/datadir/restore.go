package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

// restoringFile is in a folder from before a restore writes anything else until all of it is
// durable. It holds the path of the backup.
const restoringFile = "RESTORING"

const vBucketPrefix = "vbucket-"

// checkRestored rejects a folder in which a restore was cut short: some of its vBuckets may have
// their state, and others none.
func (d *Dir) checkRestored() error {
	from, under, err := d.restoring()
	if err != nil || !under {
		return err
	}
	return fmt.Errorf("a restore of the backup %s into it was cut short, so nothing in it may be served; restore again: dkvsrv --restore-from %s, with the options of this node", from, from)
}

// restoring returns which backup a restore that is not complete is of, and whether there is one.
func (d *Dir) restoring() (from string, under bool, err error) {
	raw, err := os.ReadFile(filepath.Join(d.path, restoringFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return strings.TrimSuffix(string(raw), "\n"), true, nil
}

// OpenToRestore is Open for a restore of a whole database. The folder must hold nothing, but in the
// folders beside; a restore that was cut short counts as nothing, and is removed.
func OpenToRestore(path string, id Identity, beside ...string) (*Dir, error) {
	return open(path, id, func(d *Dir) error {
		switch _, under, err := d.restoring(); {
		case err != nil:
			return err
		case under:
			d.restores = true
			return d.clear()
		}
		d.restores = true
		return d.checkEmpty(beside)
	})
}

// checkEmpty rejects a folder that holds anything: what is there may be all that is left of a
// database.
func (d *Dir) checkEmpty(beside []string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("%w; check its owner and permissions", err)
	}
	for _, e := range entries {
		path := filepath.Join(d.path, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), vBucketPrefix):
			// The disk of a vBucket may be mounted there. What is in it is emptied after a crash, so
			// nothing else may be.
			if inside, err := os.ReadDir(path); err == nil && !holdsMore(inside) {
				continue
			}
		case e.Name() == lockFile, e.Name() == lostAndFound, leadsTo(path, beside):
			continue
		}
		return fmt.Errorf("it is not empty (%s), and a restore only goes into an empty one; nothing was changed: choose another folder, or move what is there away", e.Name())
	}
	return nil
}

// leadsTo reports whether a path is one of some folders, or one of them is below it.
func leadsTo(path string, folders []string) bool {
	from, err := filepath.Abs(path)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(folders, func(f string) bool {
		to, err := filepath.Abs(f)
		if err != nil {
			return false
		}
		rel, err := filepath.Rel(from, to)
		return err == nil && filepath.IsLocal(rel)
	})
}

// lostAndFound is what a file system keeps at its root.
const lostAndFound = "lost+found"

func holdsMore(entries []fs.DirEntry) bool {
	return len(entries) > 1 || len(entries) == 1 && entries[0].Name() != lostAndFound
}

// BeginRestore records, durably and before any vBucket is made, that a restore of the backup at a
// path has begun. Whose the folder is comes first: a release that knows nothing of restores misses
// the vBuckets then, and does not start with an empty database.
func (d *Dir) BeginRestore(from string) error {
	if strings.ContainsAny(from, "\r\n") {
		return fmt.Errorf("the path of a backup is one line, not %q", from)
	}
	if err := d.Claim(); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(d.path, restoringFile), []byte(from+"\n"))
}

// EndRestore records that all vBuckets have their states.
func (d *Dir) EndRestore() error {
	if err := os.Remove(filepath.Join(d.path, restoringFile)); err != nil {
		return err
	}
	d.restores = false
	return durable.SyncDir(d.path)
}

// DropRestore removes what a restore that has failed has made, so that the folder is empty again.
func (d *Dir) DropRestore() error {
	if err := d.clear(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.path, markerFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d.claimed = false
	// The record goes last: what is left of the rest would not count as a restore's.
	if err := durable.SyncDir(d.path); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(d.path, restoringFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(d.path)
}

// clear empties the folders of the vBuckets, which were empty before the restore. They stay, since
// they may be links or the roots of file systems.
func (d *Dir) clear() error {
	names, err := Named(d.path, vBucketPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(d.path, name)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == lostAndFound {
				continue
			}
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
