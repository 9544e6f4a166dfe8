package badger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bdg "github.com/dgraph-io/badger/v4"
	bopt "github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/dkvdb/dkv/internal/storage"
)

func corrupt(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s; restore a backup or bootstrap the node again",
		storage.ErrCorrupt, path, fmt.Sprintf(format, args...))
}

// verifyDir looks at a directory before Badger does, because of damage that
// Badger would answer with a lost table, a panic or the end of the process.
// The key is the master key.
func verifyDir(dir string, key []byte) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var logs []string
	hasManifest, hasData := false, false
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		ext := filepath.Ext(path)
		switch {
		case entry.Name() == bdg.ManifestFilename:
			hasManifest = true
		case entry.Name() == "CURRENT":
			return fmt.Errorf("%w: %s belongs to another storage engine (RocksDB)", storage.ErrBadOptions, dir)
		case ext == ".mem" || ext == ".vlog":
			removed, err := dropUnborn(path)
			if err != nil {
				return err
			}
			if ext == ".mem" && !removed {
				logs = append(logs, path)
				hasData = true
			}
		case ext == ".sst":
			hasData = true
		}
		if err := checkAccess(path, entry); err != nil {
			return err
		}
	}
	if !hasManifest {
		if hasData {
			return corrupt(filepath.Join(dir, bdg.ManifestFilename), "missing, though there is data")
		}
		return nil
	}
	if err := verifyTables(dir, key); err != nil {
		return err
	}
	// Their names are numbers of at least five digits.
	slices.SortFunc(logs, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	for i, path := range logs {
		if err := verifyLog(path, i == len(logs)-1); err != nil {
			return err
		}
	}
	return nil
}

// dropUnborn removes a log that a crash has left without its first byte, which
// Badger would refuse.
func dropUnborn(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > 0 {
		return false, err
	}
	return true, os.Remove(path)
}

// checkAccess makes sure that Badger can write to one of its files: it ends
// the process if it cannot.
func checkAccess(path string, entry fs.DirEntry) error {
	if !entry.Type().IsRegular() {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an unborn log
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// verifyTables reads every table that the manifest names.
func verifyTables(dir string, key []byte) error {
	manifest, err := readManifest(dir)
	if err != nil {
		return corrupt(filepath.Join(dir, bdg.ManifestFilename), "%v", err)
	}
	keys, err := newKeyring(dir, key)
	if err != nil {
		return err
	}
	defer keys.close()
	for id, t := range manifest.Tables {
		if err := verifyTable(table.NewFilename(id, dir), t, keys); err != nil {
			return err
		}
	}
	return nil
}

func readManifest(dir string) (bdg.Manifest, error) {
	f, err := os.Open(filepath.Join(dir, bdg.ManifestFilename))
	if err != nil {
		return bdg.Manifest{}, err
	}
	defer f.Close()
	manifest, _, err := bdg.ReplayManifestFile(f, 0, bdg.DefaultOptions(dir).WithLogger(nil))
	return manifest, err
}

// verifyTable reads a table from end to end. Badger panics on many kinds of
// damage, so this is the place for it.
func verifyTable(path string, known bdg.TableManifest, keys *keyring) (err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return corrupt(path, "missing")
	case err != nil:
		return err
	case info.Size() == 0:
		return corrupt(path, "empty")
	}
	file, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = corrupt(path, "malformed table")
		}
		err = errors.Join(err, file.Close(-1))
	}()
	opts := table.Options{
		ReadOnly:    true,
		BlockSize:   blockBytes,
		Compression: known.Compression,
		ChkMode:     bopt.OnBlockRead,
	}
	if err := keys.unlock(&opts, known.KeyID); err != nil {
		return corrupt(path, "%v", err)
	}
	t, err := table.OpenTable(file, opts)
	if err != nil {
		return corrupt(path, "%v", err)
	}
	it := t.NewIterator(table.NOCACHE)
	// An iterator ends as well at a bad block as at the end of the table.
	n := uint32(0)
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	if n != t.KeyCount() {
		return corrupt(path, "key %d of %d is in a damaged block", n+1, t.KeyCount())
	}
	return nil
}

// verify reads every table of an open engine. When it finds damage, the engine
// answers nothing any more.
func (e *Engine) verify(ctx context.Context) error {
	if e.opts.Diskless {
		return nil
	}
	tables := e.db.Tables()
	keys, known, err := e.keysOf(tables)
	if err != nil {
		return err
	}
	defer keys.close()
	for _, t := range tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		manifest, listed := known[t.ID]
		if !listed {
			continue // compacted meanwhile
		}
		path := table.NewFilename(t.ID, e.opts.Dir)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !e.hasTable(t.ID) {
			continue // compacted meanwhile
		}
		err := verifyTable(path, manifest, keys)
		if err != nil && e.hasTable(t.ID) {
			if errors.Is(err, storage.ErrCorrupt) {
				e.damage.Store(&err)
			}
			return err
		}
	}
	return nil
}

func (e *Engine) hasTable(id uint64) bool {
	return slices.ContainsFunc(e.db.Tables(), func(t bdg.TableInfo) bool { return t.ID == id })
}
