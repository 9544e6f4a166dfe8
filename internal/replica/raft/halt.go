package raft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/fsm"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica/raft/tail"
)

// Halted is what a replica knows of its log that takes no part in it any more; see S3 to S5 of
// internal/standby/DESIGN.md.
type Halted struct {
	// Term and Last are those of the log's last entry.
	Term, Last uint64
	// Voters are the voting members as applied here, and after each change behind that.
	Voters [][]uint64
	// Lease is the longest that an owner of the log may have.
	Lease time.Duration
	// Seals are the promotions for which entries behind the state seal the log.
	Seals []string
	// Standbys are the standing sets that commands behind the state may lead to.
	Standbys [][]byte
	// End is the index of the last command, whether or not it is known to be committed, and
	// Applied what the state has. Fault is why the commands in between cannot be applied to a
	// copy of it; nil if they were, or there are none.
	End, Applied kv.Index
	Fault        error
	// Digest is that of the newest change up to there; 0 if none is retained, or with a Fault.
	Digest uint64
}

// Voters returns the voting members as they are applied here, without asking anyone.
func (r *Replica) Voters() ([]uint64, error) {
	voters, _, err := r.applied()
	return voters, err
}

// applied returns the voting members and the entry that has made them.
func (r *Replica) applied() (voters []uint64, by uint64, err error) {
	err = r.host.Use(func(nh *dragonboat.NodeHost) error {
		info := nh.GetNodeHostInfo(dragonboat.NodeHostInfoOption{SkipLogInfo: true})
		if info == nil {
			return dragonboat.ErrClosed
		}
		i := slices.IndexFunc(info.ShardInfoList, func(s dragonboat.ShardInfo) bool { return s.ShardID == r.raft.Shard })
		if i < 0 || info.ShardInfoList[i].Pending {
			return kv.Errorf(kv.Unavailable, "the replica takes no part in the log at present")
		}
		voters, by = slices.Sorted(maps.Keys(info.ShardInfoList[i].Replicas)), info.ShardInfoList[i].ConfigChangeIndex
		return nil
	})
	return voters, by, err
}

// Halt ends the replica's part in the log, as Retire does, and returns what it knows of the log.
// Commands that its state lacks are applied to a copy of the state in the folder copyTo, which
// must not exist; there is none if it lacks none.
func (r *Replica) Halt(ctx context.Context, reason error, copyTo string) (Halted, error) {
	s := r.applier.Load()
	if s == nil || s.state.Load() == nil { // not opened yet
		why := r.state.Refusal()
		if why == nil {
			why = errors.New("it has not begun yet")
		}
		return Halted{}, kv.Errorf(kv.Unavailable, "vBucket %s: the replica takes no part in the log: %w", r.opts.VBucket, why)
	}
	from := s.at() // before the members: changes of them up to there are applied
	voters, by, err := r.applied()
	if err != nil {
		return Halted{}, fmt.Errorf("vBucket %s: who the members of the log are: %w", r.opts.VBucket, err)
	}
	r.Retire(reason)
	if err := r.awaitUnloaded(ctx); err != nil {
		return Halted{}, err
	}
	out := Halted{Voters: [][]uint64{voters}, Lease: r.host.LeaseLength()}
	if err := r.readHalted(s, from, by, &out); err != nil {
		return Halted{}, fmt.Errorf("vBucket %s: read the Raft log: %w", r.opts.VBucket, err)
	}
	if err := r.state.Machine().Sync(); err != nil {
		return Halted{}, err
	}
	if out.End > out.Applied {
		out.Digest, out.Fault = r.applyTail(s, out.End, copyTo)
		return out, nil
	}
	out.Digest, out.Fault = r.state.Machine().LastDigest()
	return out, nil
}

// awaitUnloaded returns once Dragonboat does not use the replica any more.
func (r *Replica) awaitUnloaded(ctx context.Context) error {
	present := r.present.Load()
	if present == nil {
		return nil
	}
	select {
	case <-present.unloaded:
		return nil
	case <-ctx.Done():
		return kv.Errorf(kv.Unavailable, "vBucket %s: the replica has not stopped yet: %w", r.opts.VBucket, ctx.Err())
	}
}

// readHalted reads the log behind what is applied; by is the entry that has made the members, which
// were read when the state was at the entry from.
func (r *Replica) readHalted(s *machine, from, by uint64, out *Halted) error {
	m := r.state.Machine()
	at := s.at()
	out.Applied, out.End = m.Applied(), m.Applied()
	epoch := m.Epoch()
	out.Lease = max(out.Lease, epoch.Lease, epoch.Earlier)
	first, last := s.log.GetRange()
	err := tookUp(s.log, from, by)
	if err != nil {
		return err
	}
	if out.Last = last; last > 0 {
		if out.Term, err = s.log.Term(last); err != nil {
			return err
		}
	}
	return tail.Each(s.log, max(first, from+1), last+1, func(e *raftpb.Entry) error {
		switch {
		case e.IsConfigChange() && e.Index > by:
			return out.change(e)
		case e.IsConfigChange() || e.Index <= at:
			return nil
		}
		c, is, err := tail.CommandOf(e)
		if err != nil || !is {
			return err
		}
		out.End = m.Base() + e.Index
		out.follow(&c)
		return nil
	})
}

// tookUp returns an error if a snapshot has replaced the log that the state does not have, which
// was at the entry from with the members of the entry by: the log begins behind it then, so that
// neither its end nor its members are known.
func tookUp(log dragonboat.ReadonlyLogReader, from, by uint64) error {
	first, _ := log.GetRange()
	_, members := log.NodeState()
	if first <= from+1 && members.ConfigChangeId <= by {
		return nil
	}
	return kv.Errorf(kv.Unavailable, "the log begins with entry %d and the state ends with entry %d: another member has sent a snapshot that is not taken up yet", first, from)
}

// follow notes the leases, seals and standing sets that a command may lead to which is not applied.
func (h *Halted) follow(c *command.Command) {
	switch {
	case c.TooLong(): // it has no effect
	case c.Kind == command.BeginEpoch && c.Begin != nil:
		lease := c.Begin.Lease
		if !c.Begin.Stated {
			lease = command.UnstatedLease
		}
		h.Lease = max(h.Lease, lease)
	case c.Kind == command.Seal && !slices.Contains(h.Seals, string(c.Expect)):
		h.Seals = append(h.Seals, string(c.Expect))
	case c.Kind == command.SetStandbys:
		h.Standbys = append(h.Standbys, c.Expect)
	case c.Kind == command.Unseal:
		h.Seals = slices.DeleteFunc(h.Seals, func(id string) bool { return id == string(c.Expect) })
	}
}

// change adds the members after a change that waits to be applied, which may also be rejected
// then: a majority of both is needed.
func (h *Halted) change(e *raftpb.Entry) error {
	var c raftpb.ConfigChange
	if err := c.Unmarshal(e.Cmd); err != nil {
		return fmt.Errorf("entry %d changes the members: %w", e.Index, err)
	}
	if len(h.Voters) > mostVoters {
		return fmt.Errorf("entry %d: too many changes of the members wait to be applied", e.Index)
	}
	for _, before := range slices.Clone(h.Voters) {
		after := slices.DeleteFunc(slices.Clone(before), func(id uint64) bool { return id == c.ReplicaID })
		if c.Type == raftpb.AddNode {
			after = append(after, c.ReplicaID)
			slices.Sort(after)
		}
		if !slices.ContainsFunc(h.Voters, func(o []uint64) bool { return slices.Equal(o, after) }) {
			h.Voters = append(h.Voters, after)
		}
	}
	return nil
}

// mostVoters bounds the lists of members that a log may lead to.
const mostVoters = 16

// applyTail applies the commands behind the state, up to an index, to a copy of it, and returns the
// digest of the newest change there.
func (r *Replica) applyTail(s *machine, end kv.Index, copyTo string) (digest uint64, err error) {
	if err := os.RemoveAll(copyTo); err != nil {
		return 0, err
	}
	from := r.state.Machine()
	if err := from.Checkpoint(copyTo); err != nil {
		return 0, err
	}
	engine, err := r.opts.Open(copyTo)
	if err != nil {
		return 0, err
	}
	m, err := fsm.NewReplica(engine)
	if err != nil {
		return 0, errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	at := m.Applied() - m.Base()
	err = tail.Each(s.log, at+1, end-m.Base()+1, func(e *raftpb.Entry) error {
		c, is, err := tail.CommandOf(e)
		switch {
		case err != nil || !is:
			return err
		case m.Restores(&c):
			return fmt.Errorf("entry %d is the end of a restore, which is not made here", e.Index)
		}
		return m.Apply([]fsm.Entry{{Index: m.Base() + e.Index, Command: &c}}, make([]command.Result, 1), false)
	})
	if err == nil {
		err = m.Sync()
	}
	if err != nil {
		return 0, err
	}
	return m.LastDigest()
}
