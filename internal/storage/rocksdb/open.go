package rocksdb

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/linxGnu/grocksdb"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
)

// familyNames are the column families in the order of the spaces, which is
// also the order of their creation, and so of their ids.
var familyNames = [storage.Spaces]string{"default", "expiry", "changelog", "meta"}

// Open opens the database in o.Dir, or creates it if the folder is empty or
// missing. The error wraps storage.ErrLocked if another process, or another
// engine of this one, has it open; storage.ErrCorrupt if it is damaged; and
// storage.ErrBadOptions if the options, the ini file or the folder are not
// for this engine.
func Open(o Options) (*Engine, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	e := &Engine{dir: o.Dir, memory: o.Memory, rows: o.RowCache.Rows(), pins: map[pin]struct{}{}}
	e.reader.engine = e
	if e.memory == nil {
		m, err := NewMemory(o.BlockCacheBytes, o.WriteBufferBytes, 1)
		if err != nil {
			return nil, err
		}
		e.memory, e.ownMemory = m, true
	}
	if err := e.open(o); err != nil {
		if e.ownMemory {
			e.memory.Close()
		}
		return nil, fmt.Errorf("open rocksdb in %s: %w", o.Dir, err)
	}
	return e, nil
}

func (e *Engine) open(o Options) error {
	exists, err := prepareFolder(o.Dir)
	if err != nil {
		return err
	}
	s := newSettings(o, e.memory)
	defer s.destroy()
	if o.INI != "" {
		if err := s.load(o.INI); err != nil {
			return err
		}
	}
	families := 0
	if exists {
		if err := checkInventory(o.Dir); err != nil {
			return err
		}
		if families, err = checkFamilies(o.Dir); err != nil {
			return err
		}
	}
	if families == len(familyNames) {
		if err := checkRecovery(o.Dir, o.Logger); err != nil {
			return err
		}
	}
	s.create(!exists)
	native, err := openNative(o.Dir, s, families)
	if err != nil {
		return err
	}
	if err := checkIDs(native); err != nil {
		C.dkv_close(native)
		return err
	}
	// Only now is it certain that no other process is loading.
	if err := removeLoad(o.Dir); err != nil {
		C.dkv_close(native)
		return err
	}
	recordInventory(o.Dir, false)
	e.native = native
	return nil
}

// checkIDs makes sure that the numbers of the column families, which batches
// name them by, are those of the spaces.
func checkIDs(native *C.dkv_db) error {
	for i, name := range familyNames {
		if id := C.dkv_family_id(native, C.size_t(i)); int(id) != i {
			return fmt.Errorf("%w: column family %q has id %d instead of %d: the folder was not written by this engine",
				storage.ErrBadOptions, name, id, i)
		}
	}
	return nil
}

// prepareFolder creates the folder if it is missing, and reports whether there
// is a RocksDB database in it.
func prepareFolder(dir string) (exists bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, durable.MkdirAll(dir)
	}
	if err != nil {
		return false, err
	}
	var data, badger bool
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == currentFile:
			return true, nil
		case name == "KEYREGISTRY", strings.HasSuffix(name, ".vlog"):
			badger = true
		case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".log"):
			data = true
		}
	}
	switch {
	case badger:
		return false, fmt.Errorf("%w: the folder holds a Badger database: open it with that engine, or give another folder", storage.ErrBadOptions)
	case data:
		// RocksDB would take the folder for empty, and delete them.
		return false, fmt.Errorf("%w: there are data files but no file CURRENT: restore the folder from a backup or from another replica", storage.ErrCorrupt)
	}
	return false, nil
}

// checkFamilies makes sure that an existing database is one of ours, and returns how
// many of the column families are there: not all if its creation was interrupted before
// anything was written.
func checkFamilies(dir string) (there int, err error) {
	o := inspectionOptions()
	defer o.Destroy()
	names, err := grocksdb.ListColumnFamilies(o, dir)
	if err != nil {
		return 0, statusTextError(err)
	}
	ours := familyNames[:]
	if slices.Equal(names, ours) {
		return len(names), nil
	}
	if len(names) < len(ours) && slices.Equal(names, ours[:len(names)]) {
		empty, err := isEmpty(dir, names)
		if empty || err != nil {
			return len(names), err
		}
	}
	return 0, fmt.Errorf("%w: the folder holds another program's RocksDB database (column families %s instead of %s): give another folder",
		storage.ErrBadOptions, strings.Join(names, ", "), strings.Join(ours, ", "))
}

// isEmpty reports whether nothing was ever written to a database.
func isEmpty(dir string, names []string) (empty bool, err error) {
	err = inspect(dir, names, func(db *grocksdb.DB) { empty = db.GetLatestSequenceNumber() == 0 })
	return empty, err
}
