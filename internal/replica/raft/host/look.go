package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
	"github.com/dkvdb/dkv/internal/replica/raft/wal/former"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// Stopped is the storage of the logs of a host that does not run. Nothing in it is changed, and no
// other process opens it until Close.
type Stopped struct {
	*wal.Reader
	dir  string
	lock *os.File
}

// Look opens the logs in a folder that a host of a deployment has left, whatever its machine's name was.
func Look(dir string, deployment uint64) (*Stopped, error) {
	folder, err := folderOf(dir, deployment)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	log, err := wal.Read(filepath.Join(folder, walFolder))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the Raft log in %s: %w", folder, err), lock.Close())
	}
	return &Stopped{Reader: log, dir: dir, lock: lock}, nil
}

// Close closes the logs.
func (s *Stopped) Close() error { return errors.Join(s.Reader.Close(), s.lock.Close()) }

// CheckSynced is that of a Host.
func (s *Stopped) CheckSynced(shard uint64, index kv.Index) error {
	return checkSynced(s.dir, shard, index)
}

// folderOf finds the folder of a deployment's logs.
func folderOf(dir string, deployment uint64) (string, error) {
	machines, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var found []string
	for _, m := range machines {
		folder := logFolder(Options{Dir: dir, Deployment: deployment}, m.Name())
		// A folder may be a link to one on another disk.
		if info, err := os.Stat(filepath.Join(dir, m.Name())); err != nil || !info.IsDir() || datadir.Kept(m.Name()) {
			continue
		}
		if databases, err := former.Databases(folder); err == nil && len(databases) > 0 {
			if _, err := os.Stat(filepath.Join(folder, walFolder)); errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("%s has a Raft log of an earlier release: start this node once with this release, which takes that over, and stop it again", folder)
			}
		}
		held, err := holdsFiles(filepath.Join(folder, walFolder))
		if err != nil {
			return "", err
		}
		if held {
			found = append(found, folder)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("there is no Raft log of cluster %016x in %s; set nexus-log-dir as it was", deployment, dir)
	case 1:
		return found[0], nil
	default:
		return "", fmt.Errorf("%s holds the Raft logs of several machines, %q: move all but the newest one away", dir, found)
	}
}
