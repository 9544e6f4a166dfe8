package host

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/faults"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
	"github.com/dkvdb/dkv/internal/replica/raft/wal/former"
	"github.com/dkvdb/dkv/internal/storage"
)

// logStorage opens the log for Dragonboat, and takes over the one of an earlier release.
type logStorage struct {
	dir    string
	layout layout
	faults *faults.Faults
	log    *slog.Logger
	// opened is the log once it is open, failed why it cannot be opened.
	opened atomic.Pointer[wal.Log]
	failed error
}

// The names under which Dragonboat knows the storage of a log.
const (
	walName    = "dkv-wal"
	pebbleName = "sharded-pebble"
)

// walFolder is where a log of ours is in the folder that Dragonboat has for it.
const walFolder = "wal"

// hostFile is what Dragonboat writes beside a log once it has opened it.
const hostFile = "dragonboat.ds"

// Name implements config.LogDBFactory. Dragonboat does not open a folder whose log had another
// name.
func (s *logStorage) Name() string {
	if s.layout.TakenOver || s.layout.Format == pebbleFormat {
		return pebbleName
	}
	return walName
}

// Create implements config.LogDBFactory. The folder is locked.
func (s *logStorage) Create(_ config.NodeHostConfig, _ config.LogDBCallback, dirs, _ []string) (raftio.ILogDB, error) {
	l, err := s.create(dirs)
	if s.failed = err; err != nil {
		return nil, err
	}
	s.opened.Store(l)
	return l, nil
}

func (s *logStorage) create(dirs []string) (*wal.Log, error) {
	opts := wal.Options{Dir: filepath.Join(dirs[0], walFolder), Faults: s.faults, Log: s.log}
	if s.layout.Format == pebbleFormat {
		if err := s.takeOver(opts, dirs[0]); err != nil {
			return nil, fmt.Errorf("the Raft log of the earlier release cannot be taken over: %w; it is as it was, and that release can still use it", err)
		}
	}
	if err := s.removeFormer(dirs[0]); err != nil {
		return nil, err
	}
	l, err := wal.Open(opts)
	var newer *wal.NewerError
	var damage *wal.DamageError
	switch {
	case errors.As(err, &newer):
		return nil, storage.Newer("the Raft log by "+newer.File, uint64(newer.Format), wal.Format)
	case errors.As(err, &damage):
		return nil, fmt.Errorf("the Raft log in %s is damaged: %w. What this node has voted for and acknowledged may be missing: remove it (dkvctl -removeNode), "+
			"start it on an empty data folder with --nexus-join and add it again (dkvctl -addNode)", opts.Dir, err)
	}
	return l, err
}

// durable returns the last entry of a replica's log that is on disk.
func (s *logStorage) durable(shard, replica uint64) uint64 {
	if l := s.opened.Load(); l != nil {
		return l.Durable(shard, replica)
	}
	return 0
}

// stopWaiting makes writes fail that wait for room: the host is about to be closed.
func (s *logStorage) stopWaiting() {
	if l := s.opened.Load(); l != nil {
		l.StopWaiting()
	}
}

// takeOver copies the log, and then notes that the copy is the log from now on.
func (s *logStorage) takeOver(opts wal.Options, from string) error {
	databases, err := former.Databases(from)
	if err != nil {
		return err
	}
	// Dragonboat made all of them before it noted the log, and one that is missing would be taken
	// for one that nothing was written to.
	if _, err := os.Stat(filepath.Join(s.dir, hostFile)); err == nil && uint64(len(databases)) < s.layout.LogShards {
		return fmt.Errorf("%s says that there is one, but of its databases (logdb-*) %d of %d are in %s: put the others back",
			filepath.Join(s.dir, hostFile), len(databases), s.layout.LogShards, from)
	}
	was, err := wal.TakeOver(opts, from)
	if err != nil {
		return err
	}
	if was {
		s.log.Info("the Raft log of an earlier release was taken over", "dir", opts.Dir)
	}
	s.layout.Format, s.layout.TakenOver = layoutFormat, true
	return saveLayout(s.dir, s.layout)
}

// removeFormer removes what has been taken over, just now or before a crash.
func (s *logStorage) removeFormer(dir string) error {
	if s.layout.TakenOver {
		return former.Remove(dir)
	}
	databases, err := former.Databases(dir)
	if err == nil && len(databases) > 0 {
		err = fmt.Errorf("%s has a Raft log of an earlier release (logdb-*), which %s knows nothing of: put the file back that belongs to it",
			dir, filepath.Join(s.dir, layoutFile))
	}
	return err
}
