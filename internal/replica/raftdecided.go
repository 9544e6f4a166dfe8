package replica

import (
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftpb"

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

// seen is called with every message that is sent or has come.
func (h *Host) seen(m *raftpb.Message) {
	if m.Type != raftpb.Replicate && m.Type != raftpb.Heartbeat {
		return
	}
	if r, ok := h.rafts.Load(m.ShardID); ok {
		r.(*Raft).decided.heard(m.Commit)
	}
}

// commit is the index of the last command that is known to be decided. What Dragonboat
// keeps to itself, such as the entry that begins a term, is never applied here, and does
// not count: a member that has applied all there is must not look as if it were behind.
func (r *Raft) commit(m *fsm.Machine) kv.Index {
	applied := m.Applied() - m.Base()
	commit := r.decided.entry.Load()
	if commit > applied && commit-applied <= gapEntries {
		commit = r.lastDecidedCommand(applied, commit)
	}
	return m.Base() + max(applied, commit)
}

// lastDecidedCommand returns the last entry up to commit that carries a command, if it is
// behind applied, else applied. When the log does not show it, commit is taken for one.
func (r *Raft) lastDecidedCommand(applied, commit uint64) uint64 {
	d := &r.decided
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked.applied == applied && d.looked.commit == commit {
		return max(applied, d.looked.command)
	}
	var command uint64
	err := r.host.use(func(nh *dragonboat.NodeHost) error {
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
