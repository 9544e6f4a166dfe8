package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dkvdb/dkv/internal/durable"
)

// Holds returns what kind of data the folder at path holds, which need not be open.
func Holds(path string) (Contents, error) {
	raw, err := os.ReadFile(filepath.Join(path, markerFile))
	if err != nil {
		return "", err
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", fmt.Errorf("%s is damaged; restore a backup into an empty folder", filepath.Join(path, markerFile))
	}
	return m.Holds, nil
}

// Named returns the names in a folder that begin with prefix. A pattern would not do: the
// folder's own path may have characters that mean something in it.
func Named(dir, prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Become records that the folder holds another kind of data from now on: a promotion makes
// a slave's copy a database of its own.
func (d *Dir) Become(holds Contents) error {
	d.id.Holds, d.claimed = holds, false
	return d.Claim()
}

// SetAside moves what the folder holds but a log, and more files that are named, to the folder
// aside below it, so that the next node begins with an empty one. After a crash it is called again.
func (d *Dir) SetAside(aside string, more ...string) error {
	to := filepath.Join(d.path, aside)
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	all, err := Named(d.path, "vbucket-")
	if err != nil {
		return err
	}
	for _, name := range append(append(all, more...), markerFile) {
		if err := os.Rename(filepath.Join(d.path, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d.claimed = false
	return errors.Join(durable.SyncDir(to), durable.SyncDir(d.path))
}
