// Package datadir owns the folder that a node keeps its data in: who may open
// it, which engine it belongs to, and which of a vBucket's engine directories
// is the present one.
//
//	db-folder/
//	  LOCK                     held by the process that has the folder open
//	  dkv.json                 whose data it is, written once an engine has opened, and held too
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
	"sync/atomic"
	"syscall"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/storage"
)

const (
	lockFile   = "LOCK"
	markerFile = "dkv.json"
	format     = 1
)

// Identity says whose data a folder holds: what a node must be configured with to
// open it.
type Identity struct {
	Engine   string `json:"engine"`
	Database string `json:"database"`
	// VBucket names the only vBucket, VBuckets counts those that the database is
	// cut into: with another count a key would be looked for in the wrong one.
	VBucket  string `json:"vbucket"`
	VBuckets int    `json:"vbuckets"`
	// Holds distinguishes a database of the folder's own from a copy of another.
	Holds Contents `json:"holds,omitempty"`
}

// Contents is what kind of data a folder holds. One kind must not be opened as
// another: what is written to a copy is nowhere else, and a database that is taken
// for a copy would be replaced by what it is thought to copy.
type Contents string

const (
	// Database is a standalone node's or a master's.
	Database Contents = ""
	// Copy is a slave's.
	Copy Contents = "copy"
	// Registry is a discovery node's.
	Registry Contents = "registry"
)

// String is the contents in an error, with the role that they are for.
func (c Contents) String() string {
	switch c {
	case Database:
		return "a database of its own (role none or master)"
	case Copy:
		return "a slave's copy (role slave)"
	case Registry:
		return "a registry (role discovery)"
	default:
		return string(c)
	}
}

// marker is the content of dkv.json.
type marker struct {
	Format int `json:"format"`
	Identity
}

// Dir is an open, locked data folder.
type Dir struct {
	path string
	// lock is the file LOCK, marker the file dkv.json; nil while there is none. Both are locked: LOCK
	// is easily taken for what a crash has left, and removed.
	lock   *os.File
	marker atomic.Pointer[os.File]
	// id is whose data the folder holds, or will once it is claimed.
	id      Identity
	claimed bool
	// restores says that a restore has the folder, in which no vBucket has a state yet.
	restores bool
}

// Open creates the folder if it is missing, locks it and checks that what it
// holds, if anything, is id's. The error says what to do; it is
// storage.ErrLocked if another process has the folder open.
func Open(path string, id Identity) (*Dir, error) { return open(path, id, (*Dir).check) }

// open is Open with what is to be true of the locked folder.
func open(path string, id Identity, check func(*Dir) error) (*Dir, error) {
	if err := durable.MkdirAll(path); err != nil {
		return nil, fmt.Errorf("create db-folder: %w", advised(err, "choose a folder that this user may write to"))
	}
	lock, err := acquire(filepath.Join(path, lockFile), os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("db-folder %s: %w", path, err)
	}
	d := &Dir{path: path, lock: lock, id: id}
	if err := check(d); err != nil {
		return nil, fmt.Errorf("db-folder %s: %w", path, errors.Join(err, d.Close()))
	}
	return d, nil
}

// IsLock reports whether a name is that of the file which keeps other processes out.
func IsLock(name string) bool { return name == lockFile }

// acquire opens and locks a file.
func acquire(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, advised(err, "check its owner and permissions")
	}
	if err := durable.Lock(f); err != nil {
		f.Close()
		if errors.Is(err, durable.ErrLocked) {
			return nil, fmt.Errorf("%w; stop the other dkvsrv or choose another db-folder", storage.ErrLocked)
		}
		return nil, err
	}
	return f, nil
}

// advised adds what to do about a folder that cannot be used, unless the disk itself takes
// nothing: other advice is for that.
func advised(err error, what string) error {
	if storage.Shortage(err) != nil || errors.Is(err, syscall.EROFS) {
		return err
	}
	return fmt.Errorf("%w; %s", err, what)
}

// check compares the marker with the configuration of the node.
func (d *Dir) check() error {
	if err := d.checkRestored(); err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(d.path, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return d.checkUnclaimed()
	}
	if err != nil {
		return fmt.Errorf("%w; check its owner and permissions", err)
	}
	var m marker
	if err := json.Unmarshal(raw, &m); err != nil || m.Format < 1 || m.Engine == "" {
		return fmt.Errorf("%s is damaged; restore a backup into an empty folder", markerFile)
	}
	if m.Format > format {
		return storage.Newer("it", uint64(m.Format), format)
	}
	d.claimed = true
	if err := m.Identity.admits(d.id); err != nil {
		return err
	}
	return d.lockMarker()
}

// lockMarker locks the marker that there is now.
func (d *Dir) lockMarker() error {
	marker, err := acquire(filepath.Join(d.path, markerFile), 0)
	if err != nil {
		return err
	}
	if before := d.marker.Swap(marker); before != nil {
		return before.Close()
	}
	return nil
}

// admits returns an error if a folder of id is to be opened as another one.
func (id Identity) admits(want Identity) error {
	const otherFolder = "or choose another folder"
	switch {
	case id.Holds != want.Holds:
		return fmt.Errorf("it holds %v, not %v; set role as it was %s", id.Holds, want.Holds, otherFolder)
	case id.Engine != want.Engine:
		return fmt.Errorf("it holds a %s database, not %s; set db-engine to %s %s", id.Engine, want.Engine, id.Engine, otherFolder)
	case id.Database != want.Database:
		return fmt.Errorf("it holds database %q, not %q; set database to %s %s", id.Database, want.Database, id.Database, otherFolder)
	case id.VBuckets != want.VBuckets:
		return fmt.Errorf("its database is cut into %d vBuckets, not %d; set vbuckets to %d %s", id.VBuckets, want.VBuckets, id.VBuckets, otherFolder)
	case id.VBucket != want.VBucket:
		return fmt.Errorf("it holds vBucket %q, not %q; set vbucket to %s %s", id.VBucket, want.VBucket, id.VBucket, otherFolder)
	}
	return nil
}

// Claim writes down whose data the folder holds, once there is an engine that
// has opened in it: an attempt that failed must not decide for the next one.
func (d *Dir) Claim() error {
	if d.claimed {
		return nil
	}
	raw, err := json.Marshal(marker{Format: format, Identity: d.id})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(d.path, markerFile), append(raw, '\n')); err != nil {
		return fmt.Errorf("db-folder %s: %w", d.path, err)
	}
	d.claimed = true
	if err := d.lockMarker(); err != nil {
		return fmt.Errorf("db-folder %s: %w", d.path, err)
	}
	return nil
}

// Claimed reports whether the folder holds, or has held, data of a node.
func (d *Dir) Claimed() bool { return d.claimed }

// checkUnclaimed rejects a folder that holds another program's database. The earlier system
// and backups have theirs in data: a node that started empty beside it would look as if all
// keys were lost.
func (d *Dir) checkUnclaimed() error {
	for _, name := range []string{"CURRENT", "MANIFEST", "KEYREGISTRY", "data/CURRENT", "data/MANIFEST"} {
		if _, err := os.Stat(filepath.Join(d.path, filepath.FromSlash(name))); err == nil {
			return fmt.Errorf("it holds a database that dkvsrv did not make (%s); choose another folder", name)
		}
	}
	return nil
}

// Path returns the folder.
func (d *Dir) Path() string { return d.path }

// Gone returns an error if the folder was moved or removed: none of the files is there that are locked.
// What is written then is not found by the next start.
func (d *Dir) Gone() error {
	for _, held := range d.held() {
		_, err := os.Stat(filepath.Join(d.path, filepath.Base(held.Name())))
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return nil // another error says nothing of it
		}
	}
	return fmt.Errorf("%w: %s was moved or removed while this node runs, and what it wrote would be lost; stop the node, put the folder back and start it again",
		storage.ErrGone, d.path)
}

// held are the locked files.
func (d *Dir) held() []*os.File {
	if marker := d.marker.Load(); marker != nil {
		return []*os.File{d.lock, marker}
	}
	return []*os.File{d.lock}
}

// Close releases the locks. It is idempotent.
func (d *Dir) Close() error {
	var errs []error
	for _, held := range d.held() {
		if err := held.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// VBucket opens the folder of one vBucket and removes what an interrupted
// replacement has left. It creates the folder if it is missing, unless there
// must have been one: a node that has lost its data must not continue as if it
// never had any.
func (d *Dir) VBucket(name string) (*Generations, error) {
	if name == "" || strings.ContainsAny(name, `/\`+"\x00") || name == "." || name == ".." {
		return nil, fmt.Errorf("vBucket name %q cannot be a folder's name", name)
	}
	used := d.claimed && !d.restores
	g := &Generations{path: filepath.Join(d.path, "vbucket-"+name), used: used, write: durable.WriteFile}
	if used {
		if _, err := os.Stat(filepath.Join(g.path, currentFile)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("vBucket %s: %s was used before, but %s is missing; put it back, or begin with an empty db-folder",
				name, d.path, filepath.Join(filepath.Base(g.path), currentFile))
		}
	}
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("vBucket %s: %w", name, err)
	}
	return g, nil
}

// Present returns the engine directory that the next start of a node would open of a vBucket. Unlike
// VBucket it neither makes nor removes anything.
func (d *Dir) Present(name string) (string, error) {
	g := &Generations{path: filepath.Join(d.path, "vbucket-"+name), used: true}
	if err := g.readCurrent(); err != nil {
		return "", fmt.Errorf("vBucket %s: %w", name, err)
	}
	return g.Current(), nil
}
