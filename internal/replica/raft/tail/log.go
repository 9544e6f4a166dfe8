package tail

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/replica/raft/host"
	"github.com/dkvdb/dkv/internal/replica/raft/wal"
)

// Log is one vBucket's log at a member that does not run.
type Log struct {
	// First and Last are its entries; if Last is below First, it has none. Term is the last that
	// the member has voted in or heard of, Commit the last entry that it knew to be committed:
	// there may be committed ones behind it.
	First, Last, Term, Commit uint64
	// LastTerm is that of the last entry; 0 if there are none.
	LastTerm uint64

	shard, replica uint64
	extent         wal.Extent
	in             *host.Stopped
}

// Open reads the extent of a replica's log.
func Open(in *host.Stopped, shard, replica uint64) (*Log, error) {
	e, err := in.Extent(shard, replica)
	if err != nil {
		return nil, err
	}
	l := &Log{First: e.First, Last: e.Last, Term: e.Term, Commit: e.Commit, shard: shard, replica: replica, extent: e, in: in}
	if l.Last >= l.First {
		last, err := l.Entries(l.Last, l.Last+1, readBytes)
		if err != nil {
			return nil, err
		}
		l.LastTerm = last[0].Term
	}
	return l, nil
}

// Entries implements Entries.
func (l *Log) Entries(low, high, maxSize uint64) ([]raftpb.Entry, error) {
	return l.in.Entries(l.shard, l.replica, low, high, maxSize)
}

// CheckFollows returns an error, which says what to do, unless the log shows all that comes behind a
// state at an entry.
func (l *Log) CheckFollows(at uint64) error {
	if err := l.in.CheckSynced(l.shard, at); err != nil {
		return err
	}
	switch {
	case at > l.Last:
		return fmt.Errorf("the Raft log ends at entry %d, but the state has applied entry %d: the log is an older copy; put the newest one back", l.Last, at)
	case at+1 < l.First:
		return fmt.Errorf("the Raft log begins with entry %d, and the state ends with entry %d: another member has sent a snapshot that is not taken up yet; "+
			"start this node until its log says that it has caught up by a snapshot, which needs no other member, and stop it again", l.First, at)
	}
	return nil
}

// Commands calls f with the commands from one entry up to another one.
func (l *Log) Commands(from, to uint64, f func(entry uint64, c *command.Command) error) error {
	return Each(l, max(from, l.First), to+1, func(e *raftpb.Entry) error {
		c, is, err := CommandOf(e)
		if err != nil || !is {
			return err
		}
		return f(e.Index, &c)
	})
}

// Members are the replicas of a log, with their Raft addresses.
type Members struct {
	// Voters have a vote, Others do not.
	Voters, Others map[uint64]string
}

// Members returns the members after all changes that the log has, whether or not each is committed.
func (l *Log) Members() (Members, error) {
	out := Members{Voters: maps.Clone(l.extent.Bootstrap.Addresses), Others: map[uint64]string{}}
	by := uint64(0)
	if s := &l.extent.Snapshot; s.Index > 0 {
		out.Voters, out.Others = maps.Clone(s.Membership.Addresses), maps.Clone(s.Membership.NonVotings)
		by = s.Membership.ConfigChangeId
	}
	for _, m := range []*map[uint64]string{&out.Voters, &out.Others} {
		if *m == nil {
			*m = map[uint64]string{}
		}
	}
	err := Each(l, max(l.First, by+1), l.Last+1, func(e *raftpb.Entry) error {
		if !e.IsConfigChange() {
			return nil
		}
		var c raftpb.ConfigChange
		if err := c.Unmarshal(e.Cmd); err != nil {
			return fmt.Errorf("entry %d changes the members: %w", e.Index, err)
		}
		delete(out.Voters, c.ReplicaID)
		delete(out.Others, c.ReplicaID)
		switch c.Type {
		case raftpb.AddNode:
			out.Voters[c.ReplicaID] = c.Address
		case raftpb.AddNonVoting:
			out.Others[c.ReplicaID] = c.Address
		}
		return nil
	})
	return out, err
}

// ErrNone is the error of Alone for a log whose members are not known.
var ErrNone = errors.New("the log names no member with a vote")

// Alone reports whether a replica is the only one with a vote.
func (m Members) Alone(replica uint64) (bool, error) {
	if len(m.Voters) == 0 {
		return false, ErrNone
	}
	return slices.Equal(slices.Collect(maps.Keys(m.Voters)), []uint64{replica}), nil
}
