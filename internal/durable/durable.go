// Package durable changes files and folders so that a crash leaves them either
// as they were or as they were meant to be, and locks them against other
// processes.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrUncertain is wrapped by the error of a replacement that may or may not
// have happened: a crash could leave either.
var ErrUncertain = errors.New("outcome uncertain until the folder is opened again")

// WriteFile replaces a file's content: after a crash it is the old or the
// new, whole. After an error it is the old, unless the error wraps
// ErrUncertain.
func WriteFile(path string, content []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return nil
}

// SyncDir makes a directory's entries durable.
func SyncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// MkdirAll makes a directory and the parents that are missing, durably: a file
// that is synced in a folder that a power failure takes away is no less lost.
func MkdirAll(path string) error {
	switch fi, err := os.Stat(path); {
	case err == nil && fi.IsDir():
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	switch fi, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist): // although there is something
		return &fs.PathError{Op: "mkdir", Path: path, Err: errDangling}
	case err != nil:
		return err
	case !fi.IsDir():
		return &fs.PathError{Op: "mkdir", Path: path, Err: errNotDir}
	}
	// A parent that may be written to but not listed cannot be opened for this.
	if err := SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

var (
	errNotDir   = errors.New("it exists and is not a folder")
	errDangling = errors.New("it is a link, and what it leads to does not exist: is that disk mounted?")
)
