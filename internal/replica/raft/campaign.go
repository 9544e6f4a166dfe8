package raft

import (
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/replica"
)

// memberEnded is called when the process of the member at a Raft address has ended. If that
// member leads the log, the others need not wait until they have missed it for an election's
// time.
func (r *Replica) memberEnded(address string) {
	leader, term := r.leads()
	if leader == 0 || leader == r.raft.Replica {
		return
	}
	record := r.state.Machine().Members()[leader]
	if m, err := replica.DecodeMember(record); err != nil || m.RaftAddress != address {
		return
	}
	c := &succession{r: r, ended: leader, term: term}
	c.turn = time.Duration(r.turnAfter(leader)) * campaignPause * r.host.Timing().RTT
	time.AfterFunc(c.turn, c.look)
}

// In round trips between members, and so far below the time of an election.
const (
	// campaignPause is how long a member has to ask for votes before the next one may.
	campaignPause = 2
	// campaignGrace is how long an election may take that was begun.
	campaignGrace = 8
	// campaigns bounds how often a member looks whether there is a leader. After that the
	// election's time has passed.
	campaigns = 3
)

// succession is the search for the leader after one whose process has ended. Members take
// turns: if all asked for votes at once, each would vote for itself.
type succession struct {
	r           *Replica
	ended, term uint64
	turn        time.Duration
	looks       int
}

// look begins an election unless there is a leader, or another member's election is under
// way: a later one would depose its leader, and might fail.
func (s *succession) look() {
	r := s.r
	var leader, term uint64
	err := r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		leader, term, _, err = nh.GetLeaderID(r.raft.Shard)
		return err
	})
	if err != nil || leader != 0 && leader != s.ended {
		return // also if this replica takes no part in the log
	}
	if s.looks++; s.looks > 1 || term == s.term {
		r.opts.Log.Info("the process of the log's leader has ended; this member stands for election", "leader", s.ended, "term", term)
		r.host.Campaign(r.raft.Shard, r.raft.Replica, s.ended, term)
	}
	if s.looks < campaigns {
		time.AfterFunc(campaignGrace*r.host.Timing().RTT+s.turn, s.look)
	}
}

// turnAfter returns how many other members begin an election before this one when the leader
// has ended. All members agree on the order: by their ids, beginning after the leader's.
func (r *Replica) turnAfter(leader uint64) int {
	var ids []uint64
	for id := range r.state.Machine().Members() {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	after := func(id uint64) int { // places behind the leader
		return (slices.Index(ids, id) - slices.Index(ids, leader) + len(ids)) % len(ids)
	}
	return max(after(r.raft.Replica)-1, 0)
}
