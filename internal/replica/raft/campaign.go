package raft

import (
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/replica"
)

// memberEnded is called when the process of the member at a Raft address has ended. If that
// member leads the log, the others need not wait until they have missed it for an election's
// time. They begin one after another, so that they do not all vote for themselves.
func (r *Replica) memberEnded(address string) {
	leader, _ := r.leads()
	if leader == 0 || leader == r.raft.Replica {
		return
	}
	record := r.state.Machine().Members()[leader]
	if m, err := replica.DecodeMember(record); err != nil || m.RaftAddress != address {
		return
	}
	wait := time.Duration(r.turnAfter(leader)) * campaignPause * r.host.Timing().RTT
	time.AfterFunc(wait, func() { r.campaignAfter(leader) })
}

// campaignPause is how long a member has for its election before the next one begins its own,
// in round trips between members.
const campaignPause = 2

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

// campaignAfter begins an election, unless another member has been elected since its leader
// has ended.
func (r *Replica) campaignAfter(ended uint64) {
	var leader, term uint64
	err := r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		leader, term, _, err = nh.GetLeaderID(r.raft.Shard)
		return err
	})
	if err != nil || leader != 0 && leader != ended {
		return // also if this replica takes no part in the log
	}
	r.opts.Log.Info("the process of the log's leader has ended; this member stands for election", "leader", ended, "term", term)
	r.host.Campaign(r.raft.Shard, r.raft.Replica, ended, term)
}
