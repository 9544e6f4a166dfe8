// Package files writes the files that dkvctl keeps for operators: new ones that overwrite
// nothing, and replacements that readers see whole.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
)

// Lock keeps other processes from changing the files of a folder until the result is closed.
func Lock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f); err != nil {
		_ = f.Close() // it was not written to
		return nil, fmt.Errorf("%s: %w: is another dkvctl changing its files?", dir, err)
	}
	return f, nil
}

// WriteNew writes a file that must not exist yet. After an error it is gone.
func WriteNew(file string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already, and is not overwritten", file)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// Replacement is the new content of a file, which need not exist.
type Replacement struct {
	File    string
	Content []byte
	Mode    fs.FileMode
}

// Replace replaces files of one folder, each with one rename, in order. All new contents
// are on disk before the first rename, so that readers see files that do not fit together
// only for the moment between two renames.
func Replace(all ...Replacement) error {
	for _, r := range all {
		if err := os.Remove(r.tmp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // of a replacement that was interrupted
		}
		if err := WriteNew(r.tmp(), r.Content, r.Mode); err != nil {
			return err
		}
		keepOwner(r.File, r.tmp())
	}
	for _, r := range all {
		if err := os.Rename(r.tmp(), r.File); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(all[0].File))
}

func (r *Replacement) tmp() string { return r.File + ".new" }
