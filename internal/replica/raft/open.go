package raft

import (
	"context"
	"fmt"
	"sync"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/statemachine"

	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/replica"
)

// logEnds is the extent of a replica's own log when the replica is about to take part in
// it.
type logEnds struct {
	// First and Last are the entries that it has; if Last is below First, it has none.
	First, Last uint64
	// Commit is the last entry that the log knows to be committed, Term the last term that
	// this replica has voted in or heard of.
	Commit, Term uint64
	// Snapshot is the entry up to which the log was compacted or replaced by a snapshot; 0
	// for none.
	Snapshot uint64
}

// Open implements statemachine.IOnDiskStateMachine. It is called before the replica
// takes any step: it neither votes nor acknowledges entries before Open has returned.
// A replica that must not take part at all is stopped here.
func (s *machine) Open(done <-chan struct{}) (uint64, error) {
	err := s.r.host.Use(func(nh *dragonboat.NodeHost) (err error) {
		s.log, err = nh.GetLogReader(s.r.raft.Shard)
		return err
	})
	s.state.Store(s.r.state.Machine())
	at := s.at()
	if err == nil {
		err = s.r.beforeItTakesPart(s.log, at)
	}
	if err == nil {
		err = s.r.whyRetired()
	}
	if err == nil && s.r.raft.TakePart != nil {
		s.r.raft.TakePart()
		err = s.r.whyRetired() // by what other members have answered
	}
	if err == nil {
		s.r.followStaging(s.state.Load())
		return at, nil
	}
	s.refused.Store(&err)
	s.retire()
	s.r.stop()
	<-done
	return 0, statemachine.ErrOpenStopped
}

// whyRetired returns why the replica was retired; nil if it was not.
func (r *Replica) whyRetired() error {
	if why := r.retired.Load(); why != nil {
		return *why
	}
	return nil
}

// beforeItTakesPart compares the log with the state, which is at an entry of the log. An
// error keeps the replica from taking part.
func (r *Replica) beforeItTakesPart(log dragonboat.ReadonlyLogReader, at uint64) error {
	ends := readLogEnds(log)
	r.unled.Store(len(r.raft.Members) > 0 && ends.Term <= firstTerm)
	if err := ends.check(at); err != nil {
		return err
	}
	if err := r.reach.open(r.state.Machine().Base() + kv.Index(ends.Last)); err != nil {
		return err
	}
	r.committed.heard(ends.Commit)
	// What the log knows to be committed may have been read here before.
	low := max(at+1, ends.First)
	if ends.Commit < low {
		return nil
	}
	last, err := lastCommand(log, low, ends.Commit+1)
	if err != nil {
		return fmt.Errorf("the Raft log cannot be read: %w", err)
	}
	if last != 0 {
		r.atLeast(r.state.Machine().Base() + kv.Index(last))
	}
	return nil
}

func readLogEnds(log dragonboat.ReadonlyLogReader) logEnds {
	first, last := log.GetRange()
	state, _ := log.NodeState()
	return logEnds{First: first, Last: last, Commit: state.Commit, Term: state.Term, Snapshot: first - 1}
}

// check returns an error if a state at an entry cannot come from the log: entries are
// durable in the log before they are applied, and so is the record of a snapshot.
func (e logEnds) check(at uint64) error {
	if at <= e.Last {
		return nil
	}
	return fmt.Errorf("the Raft log ends at entry %d, but the state in db-folder has applied entry %d: the log (nexus-log-dir) is an older copy, and %s", e.Last, at, olderLog)
}

// olderLog says what an older copy of the log means, and what to do about it.
const olderLog = "the votes and acknowledgements that this node has given since are missing. Put the newest one back; if there is none, remove this node " +
	"(dkvctl -removeNode), start it on an empty data folder with --nexus-join and add it again (dkvctl -addNode)"

// reach compares the end of the log with what the replica had applied before this start, as
// other members have heard.
type reach struct {
	mu     sync.Mutex
	opened bool
	// end is the last index of the log when it was opened, least the index that it must
	// have.
	end, least kv.Index
}

// open notes the last index of the log.
func (r *reach) open(end kv.Index) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened, r.end = true, end
	return r.check()
}

func (r *reach) check() error {
	if !r.opened || r.end >= r.least {
		return nil
	}
	return fmt.Errorf("index %d was applied here before this start, but the Raft log ends at index %d: it is an older copy, and %s", r.least, r.end, olderLog)
}

// Reached notes that this replica had applied an index before this start, as another member
// has heard. An error means that its log ends before that: the disk is an older copy. Until
// the log is opened there is no error, and then the replica does not start.
func (r *Replica) Reached(index kv.Index) error {
	r.reach.mu.Lock()
	defer r.reach.mu.Unlock()
	r.reach.least = max(r.reach.least, index)
	return r.reach.check()
}

// atLeast notes that states before index are too old to be read here.
func (r *Replica) atLeast(index kv.Index) {
	for {
		floor := r.floor.Load()
		if index <= floor || r.floor.CompareAndSwap(floor, index) {
			return
		}
	}
}

// catchUp waits until the state may be read again: it must be as new as the one that was
// read before a crash or a failure. It returns early when the replica fails or closes.
func (r *Replica) catchUp(ctx context.Context) {
	for r.State() == replica.Starting {
		applied, grown := r.state.Watch()
		if applied >= r.floor.Load() {
			return
		}
		select {
		case <-grown:
		case <-r.state.Closing():
			return
		case <-ctx.Done():
			return
		}
	}
}
