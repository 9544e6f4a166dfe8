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
// that was cut short, and files that were deleted by hand, show by that.
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
	// Closed says that nothing was written after Files. Without it, logs have come and gone.
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
	return nil
}

func lacking(format string, args ...any) error {
	return fmt.Errorf("%w: %s, so that writes would be lost; put the whole file back, or restore the folder from a backup or from another replica",
		storage.ErrCorrupt, fmt.Sprintf(format, args...))
}
