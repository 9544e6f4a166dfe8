package badger

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	bdg "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger deletes the tables that its manifest does not name. That is right for those that a crash
// has left, and those that an iterator held when the engine was closed. It would lose all of them
// that a cut off the end of the manifest named, as a copy of the folder that was cut short has it.
// An engine that was closed says by a file how long its manifest is, and the file goes before the
// folder is used again. An earlier release leaves the file there, and makes the manifest longer.

// closedFile has the number of bytes in the manifest.
const closedFile = "dkv-closed"

// markClosed writes the file. It need not be durable: without it, nothing is known.
func markClosed(dir string) {
	if info, err := os.Stat(filepath.Join(dir, bdg.ManifestFilename)); err == nil {
		_ = os.WriteFile(filepath.Join(dir, closedFile), strconv.AppendInt(nil, info.Size(), 10), 0o600)
	}
}

// checkClosed returns storage.ErrCorrupt if the folder was closed with a longer manifest and has
// tables that the manifest does not name. Otherwise the file is gone for good when it returns.
// The folder is verified.
func checkClosed(dir string) error {
	mark := filepath.Join(dir, closedFile)
	text, err := os.ReadFile(mark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(dir, bdg.ManifestFilename))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	was, badText := strconv.ParseInt(string(text), 10, 64) // a crash may have left no text
	if err == nil && badText == nil && info.Size() < was {
		if err := checkNamed(dir); err != nil {
			return err
		}
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return syncPath(dir)
}

// checkNamed returns storage.ErrCorrupt if there are tables that the manifest does not name.
func checkNamed(dir string) error {
	manifest, err := readManifest(dir)
	if err != nil {
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
	return nil
}
