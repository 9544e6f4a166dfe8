// Package files writes the files that dkvctl keeps for operators: new ones that overwrite
// nothing, and replacements that readers see whole.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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

// Replacement is the new content of a file, which need not exist. One that exists keeps its
// owner and mode, as far as this user may do that; it gives others no more than Mode does.
type Replacement struct {
	File    string
	Content []byte
	Mode    fs.FileMode
}

// Target returns the file that a name is of: that which a symbolic link leads to, or the name
// itself if there is nothing yet.
func Target(name string) (string, error) {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	return filepath.EvalSymlinks(name)
}

// Replace replaces files, each with one rename, in order. All new contents are on disk before
// the first rename, so that readers see files that do not fit together only for the moment
// between two renames. Symbolic links stay, and what they lead to is replaced.
func Replace(all ...Replacement) error {
	all = slices.Clone(all)
	for i := range all {
		r := &all[i]
		var err error
		if r.File, err = Target(r.File); err != nil {
			return err
		}
		if err := os.Remove(r.tmp()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // of a replacement that was interrupted
		}
		if err := WriteNew(r.tmp(), r.Content, r.Mode); err != nil {
			return err
		}
		if err := r.keepMode(); err != nil {
			return errors.Join(err, os.Remove(r.tmp()))
		}
	}
	for i := range all {
		if err := os.Rename(all[i].tmp(), all[i].File); err != nil {
			return err
		}
	}
	for i := range all {
		if err := durable.SyncDir(filepath.Dir(all[i].File)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replacement) tmp() string { return r.File + ".new" }
