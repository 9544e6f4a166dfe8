package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// Peer is a member of a log as the log sees it.
type Peer struct {
	ID     uint64
	Member Member
	// Address is the Raft address that the log sends to.
	Address string
	// Voting tells a member with a vote from one that only follows.
	Voting bool
}

// Membership is who belongs to a log.
type Membership struct {
	Peers []Peer
	// Removed are the ids that were put out; none of them comes again.
	Removed []uint64
	// Version changes with each change of the membership.
	Version uint64
}

// Voters returns how many members have a vote.
func (m *Membership) Voters() int {
	n := 0
	for _, p := range m.Peers {
		if p.Voting {
			n++
		}
	}
	return n
}

// NextID is the least id that no member ever had.
func (m *Membership) NextID() uint64 {
	next := uint64(1)
	for _, p := range m.Peers {
		next = max(next, p.ID+1)
	}
	for _, id := range m.Removed {
		next = max(next, id+1)
	}
	return next
}

// At returns the peer at a Raft address.
func (m *Membership) At(address string) (Peer, bool) {
	for _, p := range m.Peers {
		if p.Address == address {
			return p, true
		}
	}
	return Peer{}, false
}

// Membership asks a majority who belongs to the log.
func (r *Raft) Membership(ctx context.Context) (Membership, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	got, err := r.askMembership(ctx)
	if err != nil {
		return Membership{}, r.refused("no majority says who the members are", err)
	}
	known := r.Members()
	m := Membership{Version: got.ConfigChangeID}
	add := func(nodes map[uint64]string, voting bool) {
		for id, address := range nodes {
			m.Peers = append(m.Peers, Peer{ID: id, Member: known[id], Address: address, Voting: voting})
		}
	}
	add(got.Nodes, true)
	add(got.NonVotings, false)
	slices.SortFunc(m.Peers, func(a, b Peer) int { return int(a.ID) - int(b.ID) })
	for id := range got.Removed {
		m.Removed = append(m.Removed, id)
	}
	slices.Sort(m.Removed)
	return m, nil
}

// membershipAttempt is how long one question to the majority may take: what is
// forwarded to a leader that has just gone is never answered.
const membershipAttempt = 500 * time.Millisecond

func (r *Raft) askMembership(ctx context.Context) (*dragonboat.Membership, error) {
	var failed error // what the last attempt failed with for which there was time
	for {
		got, err := r.askOnce(ctx)
		switch {
		case err == nil:
			return got, nil
		case failed != nil && outOfTime(err):
			return nil, failed
		case ctx.Err() != nil || !dragonboat.IsTempError(err):
			return nil, err
		}
		if err := r.refusal(); err != nil {
			return nil, err
		}
		failed = err
		select {
		case <-time.After(transferPoll):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (r *Raft) askOnce(ctx context.Context) (*dragonboat.Membership, error) {
	nh, done, err := r.host.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, max(membershipAttempt, 2*r.host.opts.Timing.RTT))
	defer cancel()
	return nh.SyncGetShardMembership(ctx, r.raft.Shard)
}

// Members returns how the replicas are reached that have said so, by id, as the
// local state knows it.
func (r *Raft) Members() map[uint64]Member {
	records := r.machine.Load().Members()
	out := make(map[uint64]Member, len(records))
	for id, record := range records {
		m, err := decodeMember(record)
		if err != nil {
			r.opts.Log.Warn("unreadable member record", "replica", id, "error", err)
			continue
		}
		out[id] = m
	}
	return out
}

// Add lets a replica at a Raft address follow the log; Promote gives it a vote
// once it has caught up. Version is that of the membership that was looked at
// before.
func (r *Raft) Add(ctx context.Context, id uint64, address string, version uint64) error {
	if err := r.cutBase(ctx); err != nil {
		return err
	}
	return r.reconfigure(ctx, "add the replica", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestAddNonVoting(r.raft.Shard, id, address, version, timeout)
	})
}

// Promote gives a replica that follows a vote.
func (r *Raft) Promote(ctx context.Context, id uint64, address string, version uint64) error {
	return r.reconfigure(ctx, "give the replica a vote", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestAddReplica(r.raft.Shard, id, address, version, timeout)
	})
}

// Remove puts a replica out of the log for ever.
func (r *Raft) Remove(ctx context.Context, id, version uint64) error {
	return r.reconfigure(ctx, "remove the replica", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestDeleteReplica(r.raft.Shard, id, version, timeout)
	})
}

func (r *Raft) reconfigure(ctx context.Context, what string,
	request func(*dragonboat.NodeHost, time.Duration) (*dragonboat.RequestState, error)) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var rs *dragonboat.RequestState
	timeout := r.timeout(ctx)
	err := r.host.use(func(nh *dragonboat.NodeHost) (err error) {
		rs, err = request(nh, timeout)
		return err
	})
	if err != nil {
		return r.refused("cannot "+what, err)
	}
	select {
	case done := <-rs.ResultC():
		defer rs.Release()
		switch {
		case done.Completed():
			return nil
		case done.Rejected():
			return kv.Errorf(kv.Unavailable, "cannot %s: the membership has changed meanwhile; look again", what)
		case done.Dropped():
			return kv.Errorf(kv.Unavailable, "cannot %s: the log has no leader at present", what)
		}
	case <-ctx.Done():
	}
	return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("cannot tell whether the attempt to %s was successful; look at the list of members", what))
}

// SetMember keeps how a replica is reached; a zero Member forgets it.
func (r *Raft) SetMember(ctx context.Context, id uint64, m Member) error {
	c := &command.Command{Kind: command.SetMember, Member: &command.Member{ID: id}}
	if m != (Member{}) {
		c.Member.Record = m.record()
	}
	_, err := raftGroup{r}.propose(ctx, c)
	return err
}

// cutBase makes sure that a new member of a log that goes on from an earlier state
// gets that by a snapshot: its entries alone do not make the state.
func (r *Raft) cutBase(ctx context.Context) error {
	if r.machine.Load().Base() == 0 {
		return nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	for {
		if first, err := r.firstEntry(); err != nil || first > 1 {
			return err
		}
		if err := r.snapshot(ctx, dragonboat.SnapshotOption{OverrideCompactionOverhead: true}); err != nil {
			return err
		}
		select {
		case <-time.After(transferPoll):
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "the log that goes on from an earlier state is not cut yet: %w", ctx.Err())
		}
	}
}

// firstEntry is the first entry that the log still has here.
func (r *Raft) firstEntry() (first uint64, err error) {
	err = r.host.use(func(nh *dragonboat.NodeHost) error {
		log, err := nh.GetLogReader(r.raft.Shard)
		if err == nil {
			first, _ = log.GetRange()
		}
		return err
	})
	if err != nil {
		return 0, kv.Errorf(kv.Unavailable, "the log cannot be looked at: %w", err)
	}
	return first, nil
}

// Snapshot cuts the log behind the present state.
func (r *Raft) Snapshot(ctx context.Context) error {
	return r.snapshot(ctx, dragonboat.SnapshotOption{})
}

func (r *Raft) snapshot(ctx context.Context, opts dragonboat.SnapshotOption) error {
	if st := r.standing.Load(); st.state == Failed {
		return st.refusal
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var rs *dragonboat.RequestState
	timeout := r.timeout(ctx)
	err := r.host.use(func(nh *dragonboat.NodeHost) (err error) {
		rs, err = nh.RequestSnapshot(r.raft.Shard, opts, timeout)
		return err
	})
	if err != nil {
		return r.refused("cannot take a snapshot", err)
	}
	select {
	case done := <-rs.ResultC():
		defer rs.Release()
		if err := r.refusal(); err != nil {
			return err
		}
		if done.Completed() || done.Rejected() { // rejected: there is one at this index
			return nil
		}
		return kv.Errorf(kv.Unavailable, "the snapshot was not taken; retry")
	case <-ctx.Done():
		return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("the snapshot is still being taken: %w", ctx.Err()))
	}
}
