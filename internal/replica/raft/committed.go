package raft

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// committed is how far the log is known here to be committed. Dragonboat does not say, but
// the messages between members do: a leader says so in each. What is committed stays
// committed, whichever member said it.
type committed struct {
	entry atomic.Uint64

	mu sync.Mutex
	// looked is the last stretch of the log that was searched, between two entries, and the
	// last command found in it, 0 for none.
	looked struct{ applied, commit, command uint64 }
}

// heard notes that an entry is committed, and reports whether that was not known.
func (d *committed) heard(entry uint64) (news bool) {
	for {
		last := d.entry.Load()
		if entry <= last {
			return false
		}
		if d.entry.CompareAndSwap(last, entry) {
			return true
		}
	}
}

// commit is the index of the last command that is known to be committed. Entries of
// Dragonboat's own, such as the one that begins a term, are never applied here and do not
// count: a member that has applied every command must not appear to lag.
func (r *Replica) commit(m *fsm.Machine) kv.Index {
	applied := m.Applied() - m.Base()
	commit := r.committed.entry.Load()
	if commit > applied && commit-applied <= gapEntries {
		commit = r.lastCommittedCommand(applied, commit)
	}
	return m.Base() + max(applied, commit)
}

var errNotShown = errors.New("the log does not show the committed entries yet")

// lastCommittedCommand returns the last entry up to commit that carries a command, or applied
// if there is none after it. If the log does not show the entries, commit counts as a
// command.
func (r *Replica) lastCommittedCommand(applied, commit uint64) uint64 {
	d := &r.committed
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked.applied == applied && d.looked.commit == commit {
		return max(applied, d.looked.command)
	}
	var command uint64
	err := r.host.Use(func(nh *dragonboat.NodeHost) error {
		log, err := nh.GetLogReader(r.raft.Shard)
		if err != nil {
			return err
		}
		if _, last := log.GetRange(); commit > last {
			return errNotShown // which Dragonboat would log as an error, too
		}
		command, err = lastCommand(log, applied+1, commit+1)
		return err
	})
	if err != nil {
		return commit
	}
	d.looked.applied, d.looked.commit, d.looked.command = applied, commit, command
	return max(applied, command)
}
