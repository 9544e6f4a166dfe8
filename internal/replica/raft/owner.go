package raft

import (
	"time"

	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/replica"
)

// leadership is the leader of the log in a term.
type leadership struct{ id, term uint64 }

// Owner implements replica.Replica. A replica that was removed names itself, so that
// requests get an error that says so. One whose storage has failed takes no part in the
// log, but the other members continue, so it names the last leader that it has heard of.
func (r *Replica) Owner() replica.Owner {
	switch r.State() {
	case replica.Removed:
		return replica.Owner{Self: true}
	case replica.Failed:
		return r.otherOwner()
	}
	switch id, _ := r.newestLeader(); id {
	case r.raft.Replica:
		return replica.Owner{Self: true, ID: id, Address: r.raft.Self.Address}
	case 0:
		return replica.Owner{Missed: r.missesLeader()}
	default:
		return r.ownerOf(id)
	}
}

// newestLeader is leads, unless another member has said that it leads in a later term. A replica whose log
// does not get on, since the disk of that hangs, does not hear of it from the log, and would take itself
// for the leader for as long as that lasts.
func (r *Replica) newestLeader() (id, term uint64) {
	id, term = r.leads()
	if last := r.led.Load(); id != 0 && last != nil && last.term > term && last.id != r.raft.Replica {
		return last.id, last.term
	}
	return id, term
}

// missesLeader reports whether the log has had no leader that is known here for the longest
// time that an election takes in which no vote is lost: followers wait for up to twice the
// election's time before they stand.
func (r *Replica) missesLeader() bool {
	lost := r.leaderless.Load()
	return lost != 0 && r.clock.Now()-time.Duration(lost) >= 2*r.host.Timing().ElectionTime()
}

// namedOwner is an owner and the member record that names its address.
type namedOwner struct {
	record []byte // not empty
	owner  replica.Owner
}

// ownerOf is the owner of the log if the replica with this id leads it. Every request that is
// forwarded asks for it, so a record is decoded once: records are replaced, never changed.
func (r *Replica) ownerOf(id uint64) replica.Owner {
	record := r.state.Machine().Members()[id]
	if len(record) == 0 {
		return replica.Owner{ID: id}
	}
	if last := r.named.Load(); last != nil && last.owner.ID == id && &last.record[0] == &record[0] {
		return last.owner
	}
	next := &namedOwner{record, replica.Owner{ID: id}}
	if m, err := replica.DecodeMember(record); err == nil {
		next.owner.Address = m.Address
	}
	r.named.Store(next)
	return next.owner
}

// otherOwner is the owner as a replica that has stopped knows it. It is none if this
// replica was the owner and has not heard of the next. If there is no other member, this
// one remains the owner, to say what is wrong.
func (r *Replica) otherOwner() replica.Owner {
	if !r.hasOthers() {
		return replica.Owner{Self: true}
	}
	if last := r.led.Load(); last != nil && last.id != r.raft.Replica {
		return r.ownerOf(last.id)
	}
	return replica.Owner{}
}

// hasOthers reports whether other members may own the log.
func (r *Replica) hasOthers() bool {
	for id, m := range r.roster.of(r.state.Machine().Members(), r.opts.Log) {
		if _, first := r.raft.Members[id]; id != r.raft.Replica && !m.Reserved(first) {
			return true
		}
	}
	return false
}

// HearLeader tells the replica that another one leads in a term, as that one says. A
// replica that takes part in the log knows by itself; one whose storage has failed does
// not, nor does one whose log does not get on.
func (r *Replica) HearLeader(id, term uint64) {
	r.noteLeader(leadership{id, term})
	if _, own := r.leads(); own < term || r.State() == replica.Failed {
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

// leaderUpdated notes a hint at the leader. It must not wait.
func (r *Replica) leaderUpdated(info raftio.LeaderInfo) {
	if info.LeaderID != 0 {
		r.noteLeader(leadership{info.LeaderID, info.Term})
		r.leaderless.Store(0)
	} else if last := r.leader.Load(); last != nil && last.LeaderID != 0 {
		r.leaderless.Store(int64(r.clock.Now()))
	}
	if before := r.leader.Swap(&info); info.LeaderID != 0 && (before == nil || before.LeaderID != info.LeaderID) {
		r.changes.Add(1)
		r.heard.Store(int64(r.clock.Now()))
	}
	r.keeper.LeaderChanged()
	if info.LeaderID == r.raft.Replica {
		r.leadSoon(&info, firstLook)
	}
}

// Dragonboat reports a leader before GetLeaderID says who it is, up to the time of a step of all groups
// that are stepped together. A keeper that looks in between finds that this replica does not lead, and
// looks again half a second later, since nothing else changes.
const firstLook, lastLook = time.Millisecond, 64 * time.Millisecond

// leadSoon has the keeper look again once GetLeaderID says that this replica leads.
func (r *Replica) leadSoon(info *raftio.LeaderInfo, pause time.Duration) {
	time.AfterFunc(pause, func() {
		id, term := r.leads()
		switch {
		case id == r.raft.Replica && term >= info.Term:
			r.keeper.LeaderChanged()
		case term <= info.Term && pause < lastLook:
			r.leadSoon(info, 2*pause)
		}
	})
}
