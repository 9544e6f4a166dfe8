package raft

import (
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
)

// decided is how far the log is known here to be decided. Dragonboat does not say, but the
// messages between members do: a leader tells its followers with every message. What was
// decided once stays so, whichever member said it.
type decided struct {
	entry atomic.Uint64

	mu sync.Mutex
	// looked are the last stretch of the log that was looked into, from which entry to
	// which, and the last command found in it, 0 for none.
	looked struct{ applied, commit, command uint64 }
}

// heard notes that an entry is decided.
func (d *decided) heard(entry uint64) {
	for {
		last := d.entry.Load()
		if entry <= last || d.entry.CompareAndSwap(last, entry) {
			return
		}
	}
}

// commit is the index of the last command that is known to be decided. What Dragonboat
// keeps to itself, such as the entry that begins a term, is never applied here, and does
// not count: a member that has applied all there is must not look as if it were behind.
func (r *Replica) commit(m *fsm.Machine) kv.Index {
	applied := m.Applied() - m.Base()
	commit := r.decided.entry.Load()
	if commit > applied && commit-applied <= gapEntries {
		commit = r.lastDecidedCommand(applied, commit)
	}
	return m.Base() + max(applied, commit)
}

// lastDecidedCommand returns the last entry up to commit that carries a command, if it is
// behind applied, else applied. When the log does not show it, commit is taken for one.
func (r *Replica) lastDecidedCommand(applied, commit uint64) uint64 {
	d := &r.decided
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked.applied == applied && d.looked.commit == commit {
		return max(applied, d.looked.command)
	}
	var command uint64
	err := r.host.Use(func(nh *dragonboat.NodeHost) error {
		log, err := nh.GetLogReader(r.raft.Shard)
		if err == nil {
			command, err = lastCommand(log, applied+1, commit+1)
		}
		return err
	})
	if err != nil {
		return commit
	}
	d.looked.applied, d.looked.commit, d.looked.command = applied, commit, command
	return max(applied, command)
}
