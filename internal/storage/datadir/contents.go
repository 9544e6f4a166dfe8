package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

// Become records that the folder holds another kind of data from now on: a promotion makes
// a slave's copy a database of its own.
func (d *Dir) Become(holds Contents) error {
	d.id.Holds, d.claimed = holds, false
	return d.Claim()
}

// SetAside moves what the folder holds to the folder aside below it, so that the next node
// begins with an empty one. After a crash it is called again.
func (d *Dir) SetAside(aside string) error {
	to := filepath.Join(d.path, aside)
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	all, err := filepath.Glob(filepath.Join(d.path, "vbucket-*"))
	if err != nil {
		return err
	}
	for _, path := range append(all, filepath.Join(d.path, "nexus"), filepath.Join(d.path, markerFile)) {
		if err := os.Rename(path, filepath.Join(to, filepath.Base(path))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d.claimed = false
	return errors.Join(durable.SyncDir(to), durable.SyncDir(d.path))
}
