package rocksdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/storage"
)

// RocksDB opens a folder whose newest log file is missing, or whose manifest is cut short, as a
// database with fewer keys: it takes both for what a crash leaves. So the engine writes down
// which of these files there are, when it has opened them and when it has closed them. A copy
// that was cut short, and files that were deleted by hand, show by that. After a crash the
// manifest shows which logs came later: it names the first one that each column family needs.
//
// The list counts only with the manifest that it names: each opening begins another one, also
// that of a release which writes no list. It is not made durable, since a list that is missing
// or torn means nothing, and one of before a power failure is void, or asks for too little.

// inventoryFile holds the list.
const inventoryFile = "dkv-inventory"

// currentFile names the present manifest.
const currentFile = "CURRENT"

// inventory is the content of inventoryFile.
type inventory struct {
	// Closed says that nothing was written after Files. Without it, the newest log is the one that
	// writes went to first, and logs have come and gone since.
	Closed   bool   `json:"closed"`
	Manifest string `json:"manifest"`
	// Files are the sizes of the manifest and of the logs, by name.
	Files map[string]int64 `json:"files"`
}

func presentManifest(dir string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, currentFile))
	return strings.TrimSpace(string(raw)), err
}

// recordInventory writes down which files there are. Without room for it, there is no list.
func recordInventory(dir string, closed bool) {
	list := inventory{Closed: closed, Files: make(map[string]int64)}
	names, err := logFiles(dir)
	if err == nil {
		list.Manifest, err = presentManifest(dir)
	}
	for _, name := range append(names, list.Manifest) {
		fi, statErr := os.Stat(filepath.Join(dir, name))
		switch {
		case statErr == nil:
			list.Files[name] = fi.Size()
		case !errors.Is(statErr, fs.ErrNotExist): // RocksDB deletes logs in the background
			err = errors.Join(err, statErr)
		}
	}
	raw, jsonErr := json.Marshal(list)
	if errors.Join(err, jsonErr) != nil {
		return
	}
	path := filepath.Join(dir, inventoryFile)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil || os.Rename(path+".new", path) != nil {
		_ = os.Remove(path + ".new") // it may not be there
	}
}

// checkInventory returns storage.ErrCorrupt if the folder lacks files, or their ends, that were
// there. It changes nothing.
func checkInventory(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, inventoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	manifest, err := presentManifest(dir)
	if err != nil {
		return err
	}
	var list inventory
	if json.Unmarshal(raw, &list) != nil || list.Manifest != manifest {
		return nil
	}
	for name, size := range list.Files {
		if !list.Closed && name != manifest {
			continue
		}
		switch fi, err := os.Stat(filepath.Join(dir, name)); {
		case errors.Is(err, fs.ErrNotExist):
			return lacking("%s is missing", name)
		case err != nil:
			return err
		case fi.Size() < size:
			return lacking("%s has %d bytes, and had %d", name, fi.Size(), size)
		}
	}
	if names, err := logFiles(dir); err != nil {
		return err
	} else if len(names) == 0 && len(list.Files) > 1 {
		return lacking("all files of the write-ahead log (*.log) are missing")
	}
	if list.Closed {
		return nil
	}
	return checkNamedLogs(dir, manifest, list.newestLog())
}

// newestLog is the greatest number of a log in the list, 0 if it has none.
func (i *inventory) newestLog() uint64 {
	newest := uint64(0)
	for name := range i.Files {
		newest = max(newest, logNumber(name))
	}
	return newest
}

// checkNamedLogs returns storage.ErrCorrupt if a log is missing that was made since the opening,
// first being the first of them, and that is needed according to the manifest. Lower numbers
// than first may be of no file: with a recovery, a column family needs what comes after
// the last log, whatever number that will have.
func checkNamedLogs(dir, manifest string, first uint64) error {
	logs, known, err := readManifest(filepath.Join(dir, manifest))
	if err != nil || !known || first == 0 {
		return err
	}
	for _, number := range append(logs.named, first) {
		if number < max(first, logs.needed) {
			continue
		}
		name := fmt.Sprintf("%06d.log", number)
		switch _, err := os.Stat(filepath.Join(dir, name)); {
		case errors.Is(err, fs.ErrNotExist):
			return lacking("%s is missing", name)
		case err != nil:
			return err
		}
	}
	return nil
}

func lacking(format string, args ...any) error {
	return fmt.Errorf("%w: %s, so that writes would be lost; put the whole file back, or restore the folder from a backup or from another replica",
		storage.ErrCorrupt, fmt.Sprintf(format, args...))
}
