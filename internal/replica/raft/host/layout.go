package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
)

// layout is what cannot change once a log was written with it: Dragonboat keeps the numbers
// and the name of the log's storage beside the log and compares them.
type layout struct {
	Format int `json:"format"`
	// Workers are Dragonboat's step workers, which write the log. LogShards is the number of
	// databases that an earlier release spread the log over; 1 for a log that is new.
	Workers   uint64 `json:"workers"`
	LogShards uint64 `json:"logShards"`
	// TakenOver says that the folder is that of an earlier release, under whose name for the log
	// Dragonboat knows it.
	TakenOver bool `json:"takenOver,omitempty"`
}

const layoutFile = "layout.json"

// layoutFormat is the newest format of the file that this release reads: the log is that of
// package wal.
const layoutFormat = 2

// pebbleFormat is the format of releases that kept the log in Pebble.
const pebbleFormat = 1

// valid reports whether each worker writes to one database only, as Dragonboat requires.
func (l *layout) valid() bool {
	return l.Format >= pebbleFormat && l.Format <= layoutFormat && l.LogShards > 0 && l.Workers > 0 && l.Workers <= maxWorkers && l.Workers%l.LogShards == 0
}

// loadLayout returns the layout of the log in dir. If there is no log yet, it chooses one
// for the host and stores it.
func loadLayout(dir string, size Size) (layout, error) {
	path := filepath.Join(dir, layoutFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		l := size.layout()
		return l, saveLayout(dir, l)
	}
	if err != nil {
		return layout{}, err
	}
	// A newer release may have written fields that are unknown here.
	var newer struct{ Format uint64 }
	if err := json.Unmarshal(raw, &newer); err == nil && newer.Format > layoutFormat {
		return layout{}, storage.Newer("the Raft log by "+path, newer.Format, layoutFormat)
	}
	var l layout
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || !l.valid() {
		return l, fmt.Errorf("%s does not say how the Raft log is laid out: %q; restore the file, or remove this node (dkvctl -removeNode) and let it join again", path, raw)
	}
	return l, nil
}

func saveLayout(dir string, l layout) error {
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, layoutFile), append(raw, '\n'))
}
