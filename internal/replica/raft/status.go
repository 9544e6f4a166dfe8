package raft

import (
	"time"

	"github.com/dkvdb/dkv/internal/replica"
	"github.com/dkvdb/dkv/internal/replica/raft/lease"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
)

// lostAfter is after how many intervals without a message from the leader a replica no
// longer names it. A replica without a vote calls no election, and would always name a
// leader that has stopped. Requests are still forwarded there.
const lostAfter = 4

// Status implements Replica.
func (r *Replica) Status() replica.Status {
	s := r.state.Status()
	s.Mode = replica.ModeRaft
	id, term := r.newestLeader()
	s.Term = term
	s.Owner = r.Owner()
	s.Behind = r.Behind()
	s.IsLeader = id == r.raft.Replica && s.State == replica.Serving
	interval := max(r.raft.FreshEvery, freshInterval)
	now := r.clock.Now()
	if !r.keeper.Held() {
		newest := max(time.Duration(r.newest.Load()), r.keeper.Confirmed(), r.opened)
		// The age between two confirmations is normal.
		if age := now - newest; age > 2*interval {
			s.Age = age
		}
	}
	s.Commit = max(r.commit(r.state.Machine()), s.Applied)
	s.Lag = s.Commit - s.Applied
	s.Snapshot = r.host.Receiving(r.raft.Shard)
	if !s.Owner.Self && now-time.Duration(r.heard.Load()) > lostAfter*interval {
		id, s.Owner = 0, replica.Owner{}
	}
	if s.ReadOnly == "" && s.Restoring {
		s.ReadOnly = replica.ErrRestoring.Error()
	}
	if s.ReadOnly == "" {
		s.ReadOnly = r.host.Guard().Shortage()
	}
	if id == 0 && s.ReadOnly == "" && s.State == replica.Serving {
		s.ReadOnly = "no leader is known; a majority of the members has to be up and to reach each other"
	}
	return s
}

// Stats count what a replica has done since it was opened.
type Stats struct {
	lease.Stats
	LeaderChanges                    uint64
	SnapshotsSent, SnapshotsReceived uint64
	// SnapshotBytes is how many bytes were sent in snapshots.
	SnapshotBytes uint64
}

// Window returns the entries that the log of this replica has on this node.
func (r *Replica) Window() wal.Window { return r.host.Window(r.raft.Shard, r.raft.Replica) }

// Stats returns what was counted.
func (r *Replica) Stats() Stats {
	return Stats{
		Stats:             r.keeper.Stats(),
		LeaderChanges:     r.changes.Load(),
		SnapshotsSent:     r.stats.snapshotsSent.Load(),
		SnapshotsReceived: r.stats.snapshotsReceived.Load(),
		SnapshotBytes:     r.stats.snapshotBytes.Load(),
	}
}
