package badger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A log is replayed into one memory table, which must not be smaller than the one that
// the log was written with: Badger panics. So the size stands in a file beside the logs,
// and logs of larger tables are written into tables on disk first, by an engine with
// those, before memory tables are made smaller.

// memtableFile holds the size in bytes, in decimal.
const memtableFile = "memtable-bytes"

// loggedMemtable returns the size of the memory tables that logs in a folder were
// written with; 0 if there are none.
func loggedMemtable(dir string) (int64, error) {
	logs, err := filepath.Glob(filepath.Join(globQuoted(dir), "*.mem"))
	if err != nil || len(logs) == 0 {
		return 0, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, memtableFile))
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultMemtableBytes, nil
	}
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil || size < MinMemtableBytes {
		return 0, corrupt(filepath.Join(dir, memtableFile), "it holds %q, which is no size of memory tables", raw)
	}
	return size, nil
}

// globQuoted is a path as a pattern that matches nothing else.
func globQuoted(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// settleMemtables makes sure that the logs in the folder can be replayed with memory
// tables of the engine's size, and records that size.
func (e *Engine) settleMemtables() error {
	logged, err := loggedMemtable(e.opts.Dir)
	if err != nil {
		return err
	}
	if logged > e.opts.MemtableBytes {
		larger := e.opts
		larger.MemtableBytes = logged
		db, err := openManaged(larger.badger(e.unflushed))
		if err != nil {
			return err
		}
		if err := e.bounded(db.Close); err != nil { // which writes the memory tables into tables on disk
			return fmt.Errorf("write logs of larger memory tables: %w", mapped(err))
		}
	}
	return recordMemtable(e.opts.Dir, e.opts.MemtableBytes)
}

// recordMemtable writes the size down, durably.
func recordMemtable(dir string, size int64) error {
	path, text := filepath.Join(dir, memtableFile), strconv.FormatInt(size, 10)+"\n"
	if raw, err := os.ReadFile(path); err == nil && string(raw) == text {
		return nil
	} else if errors.Is(err, fs.ErrNotExist) && size == DefaultMemtableBytes {
		return nil // which is what its absence means
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncPath(dir)
}
