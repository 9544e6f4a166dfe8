package wal

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
)

// disk is the file system as far as the log uses it. Tests put one in its place that loses
// what is not durable.
type disk interface {
	// list returns the names in the log's folder.
	list() ([]string, error)
	// create makes a file of size bytes, durable, with its name: filled with zeros, or out of
	// the file old, with whatever is in that, if old is not empty.
	create(name string, size int64, old string) (file, error)
	open(name string) (file, error)
	// remove removes a file; that it is gone is durable when it returns.
	remove(name string) error
}

// file is a segment's file.
type file interface {
	// writeSync writes parts one behind the other from at on. What it has written is durable
	// when it returns.
	writeSync(parts [][]byte, at int64) error
	io.ReaderAt
	size() (int64, error)
	Close() error
}

// folder is a disk of the operating system.
type folder struct{ dir string }

func (d folder) list() ([]string, error) {
	entries, err := os.ReadDir(d.dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d folder) path(name string) string { return filepath.Join(d.dir, name) }

// zeros are written in pieces of this length.
const zeroChunk = 1 << 20

func (d folder) create(name string, size int64, old string) (_ file, err error) {
	if old != "" {
		err := os.Rename(d.path(old), d.path(name))
		if _, there := os.Stat(d.path(name)); errors.Is(err, os.ErrNotExist) && there == nil {
			err = nil // it was renamed before, and something else failed
		}
		if err != nil {
			return nil, err
		}
		if err := durable.SyncDir(d.dir); err != nil {
			return nil, err
		}
		return d.open(name)
	}
	f, err := os.OpenFile(d.path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			// What is there of it would take room that may be what was missing.
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	zeros := make([]byte, min(size, zeroChunk))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-at)], at); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	if err := durable.SyncDir(d.dir); err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d folder) open(name string) (file, error) {
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d folder) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return durable.SyncDir(d.dir)
}

// osFile is a file of the operating system.
type osFile struct{ *os.File }

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writeThenSync is writeSync for file systems that cannot do both at once.
func (f osFile) writeThenSync(parts [][]byte, at int64) error {
	for _, p := range parts {
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
		at += int64(len(p))
	}
	return f.Sync()
}
