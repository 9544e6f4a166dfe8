package replica

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// raftLayout is what cannot change once a log was written with it.
type raftLayout struct {
	Format int `json:"format"`
	// Workers are Dragonboat's step and apply workers, LogShards the databases
	// that the logs of all replicas are spread over.
	Workers   uint64 `json:"workers"`
	LogShards uint64 `json:"logShards"`
}

const layoutFile = "layout.json"

// newLayout fits a small host. More workers make a few groups no faster: each of
// them has one fsync under way at a time, and shares it with all of its groups.
var newLayout = raftLayout{Format: 1, Workers: 2, LogShards: 2}

// loadLayout returns the layout of the log in dir, which it chooses where there
// is none yet.
func loadLayout(dir string) (raftLayout, error) {
	path := filepath.Join(dir, layoutFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newLayout, saveLayout(dir, newLayout)
	}
	if err != nil {
		return raftLayout{}, err
	}
	var l raftLayout
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || l.Format != 1 || l.Workers == 0 || l.LogShards == 0 {
		return l, fmt.Errorf("%s does not say how the Raft log is laid out: %q; restore the file, or remove this node and join it anew", path, raw)
	}
	return l, nil
}

func saveLayout(dir string, l raftLayout) error {
	if err := datadir.MkdirAll(dir); err != nil {
		return fmt.Errorf("raft log: %w; choose a folder that this user may write to", err)
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return datadir.WriteFile(filepath.Join(dir, layoutFile), append(raw, '\n'))
}
