package host

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/durable"
)

// Dragonboat keeps a log in a folder that is named after the machine, notes the machine's name
// beside it, and opens no log of a machine with another name. But a name changes when a container
// is created again or a host is renamed, and says nothing about the log: the node's identity says
// whose it is, and the starts that members tell each other show whether it is an older copy.

// idFile is where Dragonboat notes a number of its own, which nothing refers to.
const idFile = "NODEHOST.ID"

// settle prepares a folder so that Dragonboat opens the log in it on a machine of this name. What
// is noted for another machine, or was left damaged by a crash while it was written, is removed:
// Dragonboat writes it again.
func settle(opts Options, machine string) error {
	var was raftpb.RaftDataStatus
	noted, err := readNote(opts.Dir, hostFile, was.Unmarshal)
	if err != nil {
		return err
	}
	if noted && (was.Address != opts.Address || was.DeploymentId != opts.Deployment) {
		return nil // Dragonboat rejects it
	}
	if err := moveLog(opts, machine); err != nil {
		return err
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

// moveLog gives the log the name of this machine, if it has that of another one.
func moveLog(opts Options, machine string) error {
	deployment := fmt.Sprintf("%020d", opts.Deployment)
	folders, err := os.ReadDir(opts.Dir)
	if err != nil {
		return err
	}
	var logs []string
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		held, err := holdsFiles(filepath.Join(opts.Dir, f.Name(), deployment))
		if err != nil {
			return err
		}
		if held {
			logs = append(logs, f.Name())
		}
	}
	switch {
	case len(logs) == 0 || len(logs) == 1 && logs[0] == machine:
		return nil
	case len(logs) > 1:
		return fmt.Errorf("%s holds the Raft logs of several machines, %q: move all but the newest one away", opts.Dir, logs)
	}
	own, from := filepath.Join(opts.Dir, machine), filepath.Join(opts.Dir, logs[0])
	// Only empty folders are there: a release that did not move the log has made them.
	if err := os.RemoveAll(filepath.Join(own, deployment)); err != nil {
		return err
	}
	if err := durable.MkdirAll(own); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(from, deployment), filepath.Join(own, deployment)); err != nil {
		return err
	}
	opts.Log.Info("this machine has another name than before; the Raft log was moved to it", "dir", opts.Dir, "before", logs[0], "now", machine)
	return errors.Join(durable.SyncDir(own), durable.SyncDir(from))
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
