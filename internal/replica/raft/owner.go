package raft

import (
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/replica"
)

// leadership is who leads the log in a term.
type leadership struct{ id, term uint64 }

// Owner implements Replica. One that was removed sends nobody elsewhere: it knows no
// better, and says what became of it. One whose storage has failed takes no part in
// the log, but the others go on, and so it sends to whom it last heard to lead.
func (r *Replica) Owner() replica.Owner {
	switch r.State() {
	case replica.Removed:
		return replica.Owner{Self: true}
	case replica.Failed:
		return r.otherOwner()
	}
	id, _ := r.leads()
	if id == r.raft.Replica {
		return replica.Owner{Self: true, ID: id, Address: r.raft.Self.Address}
	}
	return r.ownerOf(id)
}

// ownerOf is the owner of the log where a replica with this id leads it.
func (r *Replica) ownerOf(id uint64) replica.Owner {
	out := replica.Owner{ID: id}
	if record := r.state.Machine().Members()[id]; record != nil {
		if m, err := replica.DecodeMember(record); err == nil {
			out.Address = m.Address
		}
	}
	return out
}

// otherOwner is the owner as a replica that has stopped knows it. It is nobody where
// this one was it and has not heard who has followed; where there is no other member,
// this one stays it, to say what is wrong.
func (r *Replica) otherOwner() replica.Owner {
	if len(r.state.Machine().Members()) <= 1 {
		return replica.Owner{Self: true}
	}
	if last := r.led.Load(); last != nil && last.id != r.raft.Replica {
		return r.ownerOf(last.id)
	}
	return replica.Owner{}
}

// HearLeader tells the replica that another one has said that it leads in a term. One
// that takes part in the log knows by itself; one that has stopped for its storage
// does not.
func (r *Replica) HearLeader(id, term uint64) {
	if r.noteLeader(leadership{id, term}); r.State() == replica.Failed {
		r.heard.Store(int64(r.clock.Now()))
	}
}

func (r *Replica) noteLeader(l leadership) {
	for {
		last := r.led.Load()
		if last != nil && l.term <= last.term || r.led.CompareAndSwap(last, &l) {
			return
		}
	}
}

// leaderUpdated takes a hint. It must not wait.
func (r *Replica) leaderUpdated(info raftio.LeaderInfo) {
	if info.LeaderID != 0 {
		r.noteLeader(leadership{info.LeaderID, info.Term})
	}
	if before := r.leader.Swap(&info); info.LeaderID != 0 && (before == nil || before.LeaderID != info.LeaderID) {
		r.changes.Add(1)
		r.heard.Store(int64(r.clock.Now()))
	}
	r.keeper.LeaderChanged()
}
