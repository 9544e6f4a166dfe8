package host

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lni/dragonboat/v4/raftpb"
	"golang.org/x/sys/unix"

	"github.com/dkvdb/dkv/internal/durable"
	"github.com/dkvdb/dkv/internal/replica/raft/wal/former"
	"github.com/dkvdb/dkv/internal/storage/datadir"
)

// Dragonboat keeps a log in a folder that is named after the machine, notes the machine's name
// beside it, and opens no log of a machine with another name. But a name changes when a container
// is created again or a host is renamed, and says nothing about the log: the node's identity says
// whose it is, and the starts that members tell each other show whether it is an older copy.

// idFile is where Dragonboat notes a number of its own, which nothing refers to.
const idFile = "NODEHOST.ID"

// lockFile is locked by the process that has the folder open.
const lockFile = "IN-USE"

// lockFolder keeps other processes away from the folder. Dragonboat locks it too, but what a start
// changes before that may be another process's.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("raft log: %w; check the permissions of nexus-log-dir", err)
	}
	if err := durable.Lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("nexus-log-dir %s: %w; stop the other dkvsrv or choose another folder", dir, err), f.Close())
	}
	return f, nil
}

// settle prepares a folder so that Dragonboat opens the log in it on a machine of this name. What
// is noted for another machine, or was left damaged by a crash while it was written, is removed:
// Dragonboat writes it again. A log that is noted and missing is an error: Dragonboat would begin
// another one, and this node would forget what it has voted for.
func settle(opts Options, machine string) error {
	var was raftpb.RaftDataStatus
	noted, err := readNote(opts.Dir, hostFile, was.Unmarshal)
	if err != nil {
		return err
	}
	// As Dragonboat compares them, which would make folders for this node's log before it rejects it.
	if noted && (!strings.EqualFold(was.Address, opts.Address) || was.DeploymentId != opts.Deployment) {
		return fmt.Errorf("nexus-log-dir %s holds the Raft log of the node %s of the cluster %016x, and this is %s of %016x: set nexus-log-dir to this node's own folder",
			opts.Dir, was.Address, was.DeploymentId, opts.Address, opts.Deployment)
	}
	holder, err := moveLog(opts, machine)
	if err != nil {
		return err
	}
	if noted {
		if err := missing(opts, cmp.Or(holder, was.Hostname), machine); err != nil {
			return err
		}
	}
	if noted && was.Hostname != machine {
		if err := forget(opts.Dir, hostFile); err != nil {
			return err
		}
	}
	_, err = readNote(opts.Dir, idFile, func([]byte) error { return nil })
	return err
}

// readNote reads a file of Dragonboat's, whose first 8 bytes are a checksum, and reports whether
// it is there. One that is damaged is removed.
func readNote(dir, name string, parse func([]byte) error) (there bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("raft log: %w; check the permissions of nexus-log-dir", err)
	}
	if len(raw) >= 8 {
		sum := md5.Sum(raw[8:])
		if bytes.Equal(raw[:8], sum[8:]) && parse(raw[8:]) == nil {
			return true, nil
		}
	}
	return false, forget(dir, name)
}

func forget(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("raft log: %w; check the permissions of nexus-log-dir", err)
	}
	return durable.SyncDir(dir)
}

// logFolder is where Dragonboat has the log on a machine of this name.
func logFolder(opts Options, machine string) string {
	return filepath.Join(opts.Dir, machine, fmt.Sprintf("%020d", opts.Deployment))
}

// missing returns an error unless there is the log that is noted for a machine. It has a folder
// before it is noted, and no file before its first entry.
func missing(opts Options, noted, machine string) error {
	folder := logFolder(opts, noted)
	databases, err := former.Databases(folder)
	if err == nil && len(databases) == 0 {
		_, err = os.Stat(filepath.Join(folder, walFolder))
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("raft log: %w; check the permissions of nexus-log-dir", err)
	}
	nor := ""
	if noted != machine {
		nor = fmt.Sprintf(", nor in %s, where it would be on this machine", logFolder(opts, machine))
	}
	return fmt.Errorf("%s notes a Raft log, and there is none in %s%s: put its folder back; if it is lost, what this node has voted for and acknowledged is missing: "+
		"remove the node (dkvctl -removeNode), start it on an empty data folder with --nexus-join and add it again (dkvctl -addNode)",
		filepath.Join(opts.Dir, hostFile), folder, nor)
}

// moveLog gives the log the name of this machine, if it has that of another one. It returns the
// machine's name if there are files of a log, else "".
func moveLog(opts Options, machine string) (holder string, err error) {
	folders, err := os.ReadDir(opts.Dir)
	if err != nil {
		return "", err
	}
	var logs []string
	var counted []fs.FileInfo
	for _, f := range folders {
		// A folder may be a link to one on another disk.
		info, err := os.Stat(filepath.Join(opts.Dir, f.Name()))
		if datadir.Kept(f.Name()) || err != nil || !info.IsDir() {
			continue
		}
		// Or to another one here: two names of one log.
		if i := slices.IndexFunc(counted, func(c fs.FileInfo) bool { return os.SameFile(c, info) }); i >= 0 {
			if f.Name() == machine {
				logs[i] = machine
			}
			continue
		}
		held, err := holdsFiles(logFolder(opts, f.Name()))
		if err != nil {
			return "", err
		}
		if held {
			logs, counted = append(logs, f.Name()), append(counted, info)
		}
	}
	switch {
	case len(logs) == 0:
		return "", nil
	case len(logs) == 1 && logs[0] == machine:
		return machine, nil
	case len(logs) > 1:
		return "", fmt.Errorf("%s holds the Raft logs of several machines, %q: move all but the newest one away", opts.Dir, logs)
	}
	if err := move(opts, logs[0], machine); err != nil {
		return "", err
	}
	opts.Log.Info("this machine has another name than before; the Raft log was moved to it", "dir", opts.Dir, "before", logs[0], "now", machine)
	return machine, nil
}

// move moves the log of one machine to another one.
func move(opts Options, from, to string) error {
	source, target := logFolder(opts, from), logFolder(opts, to)
	// Only empty folders are there: a release that did not move the log has made them.
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(target)); err != nil {
		return err
	}
	if err := os.Rename(source, target); err != nil {
		return fmt.Errorf("this machine has another name than before, and its Raft log cannot be moved to that: %w; move it by hand", err)
	}
	return errors.Join(durable.SyncDir(filepath.Dir(target)), durable.SyncDir(filepath.Dir(source)))
}

// holdsFiles reports whether there is a file anywhere in a folder.
func holdsFiles(dir string) (held bool, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			held = true
			return fs.SkipAll
		}
		return nil
	})
	return held, err
}

// Files returns the paths in a folder of the files and folders of a Raft log: other things may be
// there too. There are none if the folder does not exist. The folders in unread could not be read, as
// those of another user, so that it is not known what is in them.
func Files(dir string) (paths, unread []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	own := []string{layoutFile, lockFile, hostFile, idFile}
	for _, e := range entries {
		if slices.Contains(own, e.Name()) || isSynced(e.Name()) {
			paths = append(paths, e.Name())
			continue
		}
		if datadir.Kept(e.Name()) {
			continue
		}
		deployments, err := os.ReadDir(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrNotExist): // a file, or a link to nothing
			continue
		case err != nil:
			unread = append(unread, e.Name())
			continue
		}
		for _, d := range deployments {
			path := filepath.Join(e.Name(), d.Name())
			is, err := isLog(filepath.Join(dir, path))
			if err != nil {
				return nil, nil, err
			}
			if is {
				paths = append(paths, path)
			}
		}
	}
	return paths, unread, err
}

// isLog reports whether Dragonboat has a log in a folder, of whatever deployment.
func isLog(folder string) (bool, error) {
	if name := filepath.Base(folder); len(name) != len(fmt.Sprintf("%020d", 0)) || strings.Trim(name, "0123456789") != "" {
		return false, nil
	}
	if info, err := os.Stat(filepath.Join(folder, walFolder)); err == nil && info.IsDir() {
		return true, nil
	}
	databases, err := former.Databases(folder)
	if errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return len(databases) > 0, err
}
