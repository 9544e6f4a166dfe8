package raft

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lni/dragonboat/v4"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// Membership asks a majority for the members of the log.
func (r *Replica) Membership(ctx context.Context) (replica.Membership, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	got, err := r.askMembership(ctx)
	if err != nil {
		return replica.Membership{}, r.refused("no majority says who the members are", err)
	}
	known := r.Members()
	m := replica.Membership{Version: got.ConfigChangeID}
	add := func(nodes map[uint64]string, voting bool) {
		for id, address := range nodes {
			m.Peers = append(m.Peers, replica.Peer{ID: id, Member: known[id], Address: address, Voting: voting})
		}
	}
	add(got.Nodes, true)
	add(got.NonVotings, false)
	slices.SortFunc(m.Peers, func(a, b replica.Peer) int { return int(a.ID) - int(b.ID) })
	for id := range got.Removed {
		m.Removed = append(m.Removed, id)
	}
	slices.Sort(m.Removed)
	return m, nil
}

// membershipAttempt is how long one attempt to ask the majority may take: a request that
// was forwarded to a leader that has just stopped is never answered.
const membershipAttempt = 500 * time.Millisecond

func (r *Replica) askMembership(ctx context.Context) (*dragonboat.Membership, error) {
	var failed error // the error of the last attempt for which there was time
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
		if err := r.state.Refusal(); err != nil {
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

func (r *Replica) askOnce(ctx context.Context) (*dragonboat.Membership, error) {
	nh, done, err := r.host.Borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, max(membershipAttempt, 2*r.host.Timing().RTT))
	defer cancel()
	return nh.SyncGetShardMembership(ctx, r.raft.Shard)
}

// Members returns the members that have announced themselves, by id, as the local state
// knows them.
func (r *Replica) Members() map[uint64]replica.Member {
	return maps.Clone(r.roster.of(r.state.Machine().Members(), r.opts.Log))
}

// roster keeps the members that were decoded last: they are asked for every second, and
// hardly ever change.
type roster struct {
	mu      sync.Mutex
	records map[uint64][]byte
	members map[uint64]replica.Member
}

// of decodes the records, if they are others than at the last call. The result is shared.
func (c *roster) of(records map[uint64][]byte, log *slog.Logger) map[uint64]replica.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members != nil && maps.EqualFunc(records, c.records, bytes.Equal) {
		return c.members
	}
	members := make(map[uint64]replica.Member, len(records))
	for id, record := range records {
		m, err := replica.DecodeMember(record)
		if err != nil {
			log.Warn("unreadable member record", "replica", id, "error", err)
			continue
		}
		members[id] = m
	}
	c.records, c.members = records, members
	return members
}

// Add adds a replica at a Raft address without a vote; Promote gives it one when it has
// caught up. It fails if version is no longer the membership's.
func (r *Replica) Add(ctx context.Context, id uint64, address string, version uint64) error {
	if err := r.cutBase(ctx); err != nil {
		return err
	}
	return r.reconfigure(ctx, "add the replica", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestAddNonVoting(r.raft.Shard, id, address, version, timeout)
	})
}

// Promote gives a vote to a replica without one.
func (r *Replica) Promote(ctx context.Context, id uint64, address string, version uint64) error {
	return r.reconfigure(ctx, "give the replica a vote", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestAddReplica(r.raft.Shard, id, address, version, timeout)
	})
}

// Remove removes a replica from the log. It can never come back under that id.
func (r *Replica) Remove(ctx context.Context, id, version uint64) error {
	return r.reconfigure(ctx, "remove the replica", func(nh *dragonboat.NodeHost, timeout time.Duration) (*dragonboat.RequestState, error) {
		return nh.RequestDeleteReplica(r.raft.Shard, id, version, timeout)
	})
}

func (r *Replica) reconfigure(ctx context.Context, what string,
	request func(*dragonboat.NodeHost, time.Duration) (*dragonboat.RequestState, error)) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var rs *dragonboat.RequestState
	timeout := r.timeout(ctx)
	err := r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
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
			return kv.Errorf(kv.Unavailable, "cannot %s: the membership has changed meanwhile; look at the list of members, and try again", what)
		case done.Dropped():
			return kv.Errorf(kv.Unavailable, "cannot %s: the log has no leader at present", what)
		}
	case <-ctx.Done():
	}
	return kv.UnknownOutcome(kv.Unavailable, fmt.Errorf("cannot tell whether the attempt to %s was successful; look at the list of members", what))
}

// SetMember records how a replica is reached; a zero Member deletes the record.
func (r *Replica) SetMember(ctx context.Context, id uint64, m replica.Member) error {
	c := &command.Command{Kind: command.SetMember, Member: &command.Member{ID: id}}
	if m != (replica.Member{}) {
		c.Member.Record = m.Record()
	}
	_, err := group{r}.propose(ctx, c)
	return err
}

// Continues reports whether the log began with an earlier state, which its entries alone do
// not make. A new member must not get the first of them: each member that may lead cuts its
// log (Snapshot) before another one is added.
func (r *Replica) Continues() bool { return r.state.Machine().Base() != 0 }

// cutBase cuts the first entry off a log that began with an earlier state, so that a new
// member gets that state by a snapshot. The rest stays for members that lag a little.
func (r *Replica) cutBase(ctx context.Context) error {
	if !r.Continues() {
		return nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	for {
		if first, err := r.firstEntry(); err != nil || first > 1 {
			return err
		}
		if err := r.snapshot(ctx, dragonboat.SnapshotOption{OverrideCompactionOverhead: true, CompactionIndex: 1}); err != nil {
			return err
		}
		select {
		case <-time.After(transferPoll):
		case <-ctx.Done():
			return kv.Errorf(kv.Unavailable, "the log, which began with an earlier state, is not compacted yet: %w", ctx.Err())
		}
	}
}

// firstEntry returns the first entry that the log still has here.
func (r *Replica) firstEntry() (first uint64, err error) {
	err = r.host.Use(func(nh *dragonboat.NodeHost) error {
		log, err := nh.GetLogReader(r.raft.Shard)
		if err == nil {
			first, _ = log.GetRange()
		}
		return err
	})
	if err != nil {
		return 0, kv.Errorf(kv.Unavailable, "the log cannot be read: %w", err)
	}
	return first, nil
}

// Snapshot makes the state durable, and compacts the log but for the entries that are kept
// for members that lag a little. Of a log that Continues an earlier state not all are kept.
func (r *Replica) Snapshot(ctx context.Context) error {
	if err := r.cutBase(ctx); err != nil {
		return err
	}
	return r.snapshot(ctx, dragonboat.SnapshotOption{})
}

func (r *Replica) snapshot(ctx context.Context, opts dragonboat.SnapshotOption) error {
	if st := r.state.Standing(); st.State == replica.Failed {
		return st.Refusal
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var rs *dragonboat.RequestState
	timeout := r.timeout(ctx)
	err := r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		rs, err = nh.RequestSnapshot(r.raft.Shard, opts, timeout)
		return err
	})
	if err != nil {
		return r.refused("cannot take a snapshot", err)
	}
	select {
	case done := <-rs.ResultC():
		defer rs.Release()
		if err := r.state.Refusal(); err != nil {
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
