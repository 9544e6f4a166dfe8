package badger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/table"
)

// Badger deletes the tables that its manifest does not name. That is right for those that a crash
// has left, and would lose all of them that a cut off the end of the manifest named, as a copy of
// the folder that was cut short has it. An engine that was closed leaves no such tables, and says
// so by a file, which goes before the folder is used again.

// closedFile is empty.
const closedFile = "dkv-closed"

// markClosed writes the file. It need not be durable: without it, nothing is known.
func markClosed(dir string) {
	_ = os.WriteFile(filepath.Join(dir, closedFile), nil, 0o600)
}

// checkClosed returns storage.ErrCorrupt if the folder was closed and has tables that its manifest
// does not name. Otherwise the file is gone for good when it returns. The folder is verified.
func checkClosed(dir string) error {
	mark := filepath.Join(dir, closedFile)
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	manifest, err := readManifest(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		id, is := table.ParseFileID(entry.Name())
		if _, named := manifest.Tables[id]; is && !named {
			return corrupt(filepath.Join(dir, entry.Name()), "the manifest does not name it: its end is missing")
		}
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return syncPath(dir)
}
