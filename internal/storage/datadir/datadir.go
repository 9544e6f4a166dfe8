// Package datadir owns the folder that a node keeps its data in: who may open
// it, which engine it belongs to, and which of a vBucket's engine directories
// is the present one.
//
//	db-folder/
//	  LOCK                     held by the process that has the folder open
//	  dkv.json                 format and engine, written once
//	  vbucket-<name>/
//	    CURRENT                the name of the present generation
//	    gen-000001/            an engine directory
//
// State is replaced, by a restore or a snapshot, by building the next
// generation aside and then moving CURRENT: a crash at any point leaves the old
// or the new state, whole.
package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/storage"
)

const (
	lockFile   = "LOCK"
	markerFile = "dkv.json"
	format     = 1
)

// marker is the content of dkv.json.
type marker struct {
	Format int    `json:"format"`
	Engine string `json:"engine"`
}

// ErrUncertain is wrapped by the error of a replacement that may or may not
// have happened: a crash could leave either.
var ErrUncertain = errors.New("outcome uncertain until the folder is opened again")

// Dir is an open, locked data folder.
type Dir struct {
	path string
	lock *os.File
}

// Open creates the folder where it is missing, locks it and checks that it
// belongs to the given engine. The error says what to do; it is
// storage.ErrLocked where another process has the folder open.
func Open(path, engine string) (*Dir, error) {
	if err := MkdirAll(path); err != nil {
		return nil, fmt.Errorf("create db-folder: %w; choose a folder that this user may write to", err)
	}
	lock, err := acquire(filepath.Join(path, lockFile))
	if err != nil {
		return nil, fmt.Errorf("db-folder %s: %w", path, err)
	}
	d := &Dir{path: path, lock: lock}
	if err := d.claim(engine); err != nil {
		return nil, fmt.Errorf("db-folder %s: %w", path, errors.Join(err, d.Close()))
	}
	return d, nil
}

func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("%w; check its owner and permissions", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w; stop the other dkvsrv or choose another db-folder", storage.ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// claim checks the marker, or writes it into a folder that is new.
func (d *Dir) claim(engine string) error {
	raw, err := os.ReadFile(filepath.Join(d.path, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.checkUnclaimed(); err != nil {
			return err
		}
		raw, err = json.Marshal(marker{Format: format, Engine: engine})
		if err != nil {
			return err
		}
		return WriteFile(filepath.Join(d.path, markerFile), append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w; check its owner and permissions", err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil || m.Format < 1 || m.Engine == "" {
		return fmt.Errorf("%s is damaged; restore a backup into an empty folder", markerFile)
	}
	if m.Format > format {
		return fmt.Errorf("it has format %d and this dkvsrv knows up to %d; use a newer dkvsrv", m.Format, format)
	}
	if m.Engine != engine {
		return fmt.Errorf("it holds a %s database, not %s; set db-engine to %s or choose another folder",
			m.Engine, engine, m.Engine)
	}
	return nil
}

// checkUnclaimed refuses a folder that somebody else's database lives in.
func (d *Dir) checkUnclaimed() error {
	for _, name := range []string{"CURRENT", "MANIFEST", "KEYREGISTRY"} {
		if _, err := os.Stat(filepath.Join(d.path, name)); err == nil {
			return fmt.Errorf("it holds a database that dkvsrv did not make (%s); choose another folder", name)
		}
	}
	return nil
}

// Path returns the folder.
func (d *Dir) Path() string { return d.path }

// Close releases the lock. It is idempotent.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// VBucket opens the folder of one vBucket, creating it where it is missing,
// and removes what an interrupted replacement has left.
func (d *Dir) VBucket(name string) (*Generations, error) {
	if name == "" || strings.ContainsAny(name, `/\`+"\x00") || name == "." || name == ".." {
		return nil, fmt.Errorf("vBucket name %q cannot be a folder's name", name)
	}
	g := &Generations{path: filepath.Join(d.path, "vbucket-"+name)}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("vBucket %s: %w", name, err)
	}
	return g, nil
}
