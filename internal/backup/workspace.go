package backup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
)

// Workspace is a temporary folder beside a backup. A process that is killed leaves it behind,
// and Sweep removes it. Sweep takes only folders that have this prefix and the marker file,
// and whose marker no process has locked.
type Workspace struct {
	path string
	lock *os.File
}

const (
	workspacePrefix = ".dkv-workspace-"
	ownerFile       = "OWNER"
	ownerMarker     = "a workspace of dkvsrv, removed when no process holds the lock of this file\n"
)

// NewWorkspace makes a workspace in the folder parent, which exists.
func NewWorkspace(parent string) (*Workspace, error) {
	path, err := os.MkdirTemp(parent, workspacePrefix+"*")
	if err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	w := &Workspace{path: path, lock: lock}
	// The marker is written after the lock is taken, so that a process that reads it finds
	// it locked.
	if err := durable.Lock(lock); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if _, err := lock.WriteString(ownerMarker); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Path returns the path of a file or folder in the workspace.
func (w *Workspace) Path(name string) string { return filepath.Join(w.path, name) }

// Close removes the workspace and all that is in it.
func (w *Workspace) Close() error { return discard(w.path, w.lock) }

// discard removes a workspace and ends its lock.
func discard(path string, lock *os.File) error {
	err := os.RemoveAll(path)
	if closeErr := lock.Close(); err == nil {
		return closeErr
	}
	return os.RemoveAll(path) // NFS has a file in a folder for as long as it is open
}

// lockMarker locks a marker file; tests watch it.
var lockMarker = durable.Lock

// Sweep removes the workspaces in the folder parent whose processes have ended. Workspaces of
// running processes, and all other files and folders, stay.
func Sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var failed []error
	for _, e := range entries { // after an error, those that were read before it
		if !e.IsDir() || !strings.HasPrefix(e.Name(), workspacePrefix) {
			continue
		}
		if err := sweep(filepath.Join(parent, e.Name())); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(append(failed, err)...)
}

// SweepBelow is Sweep for backup-dir and the folders in it that backups are in: a process that is
// killed while it makes one leaves a copy of the data there, and the next backup may go elsewhere.
func SweepBelow(root string) error {
	failed := []error{Sweep(root)}
	_ = look(root, func(below string) (into bool) { // Sweep has found it unreadable too
		dir := filepath.Join(root, below)
		if IsOne(dir) {
			return false
		}
		if err := Sweep(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
			failed = append(failed, err)
		}
		return true
	})
	return errors.Join(failed...)
}

// sweep removes the folder at path if it is a workspace that no process uses.
func sweep(path string) error {
	// NFS gives no lock of a file that is open for reading only.
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ELOOP):
		return nil // another process is just making it, or it is not a workspace
	case errors.Is(err, fs.ErrPermission):
		return nil // another user's, whose processes remove it
	case err != nil:
		return err
	}
	defer lock.Close()
	marker, err := io.ReadAll(io.LimitReader(lock, int64(len(ownerMarker))+1))
	if err != nil || string(marker) != ownerMarker {
		return err
	}
	switch err := lockMarker(lock); {
	case errors.Is(err, durable.ErrLocked):
		return nil
	case err != nil:
		return err
	}
	return discard(path, lock)
}
