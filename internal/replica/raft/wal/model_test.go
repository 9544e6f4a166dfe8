package wal

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"
)

var runs = flag.Int("wal.runs", 200, "how many random histories the model test goes through")

// shape is what a group must have in the log.
type shape struct {
	bootstrap, exists bool
	state             pb.State
	// committed is the commit index that must have lasted at least.
	committed uint64
	snapshot  pb.Snapshot
	// first is that of entries, which follow each other.
	first   uint64
	entries []pb.Entry
}

func (s *shape) next() uint64 { return s.first + uint64(len(s.entries)) }

func (s *shape) clone() *shape {
	c := *s
	c.entries = append([]pb.Entry(nil), s.entries...)
	return &c
}

// model is a log's history: what each group has, and what it had before the operation under
// way.
type model struct {
	rand   *rand.Rand
	groups map[uint64]*shape
}

func newModel(seed uint64) *model {
	m := &model{rand: rand.New(rand.NewPCG(seed, 2)), groups: map[uint64]*shape{}}
	n := uint64(5)
	if seed%2 == 1 {
		n = 40 // a checkpoint takes several sectors
	}
	for id := range n {
		m.groups[id+1] = &shape{first: 1}
	}
	return m
}

// step does something to a group of the log, and returns the group with what it has if that
// has lasted. The error is the log's.
func (m *model) step(l *Log) (id uint64, after *shape, err error) {
	id = 1 + m.rand.Uint64N(uint64(len(m.groups)))
	s := m.groups[id].clone()
	if !s.exists {
		s.exists, s.bootstrap = true, true
		return id, s, l.SaveBootstrapInfo(id, 1, pb.Bootstrap{Join: true, Type: pb.OnDiskStateMachine})
	}
	u := pb.Update{ShardID: id, ReplicaID: 1}
	switch n := m.rand.IntN(20); {
	case n < 9:
		m.append(s, &u)
	case n < 12 && s.state.Commit < s.next()-1:
		s.state.Commit += 1 + m.rand.Uint64N(s.next()-1-s.state.Commit)
		u.State = s.state
	case n < 14:
		s.state.Term++
		s.state.Vote = m.rand.Uint64N(4)
		u.State, s.committed = s.state, s.state.Commit
	case n < 17 && s.state.Commit > s.snapshot.Index:
		return id, s, m.compact(l, id, s)
	case n == 17:
		m.install(s, &u)
	case n == 18 && m.rand.IntN(5) == 0:
		return id, &shape{first: 1}, l.RemoveNodeData(id, 1)
	}
	return id, s, l.SaveRaftState([]pb.Update{u}, 1)
}

func (m *model) append(s *shape, u *pb.Update) {
	at := s.next()
	if floor := max(s.state.Commit+1, s.first); m.rand.IntN(4) == 0 && floor < at {
		at = floor + m.rand.Uint64N(at-floor) // another leader's entries
	}
	if s.state.Term == 0 || at < s.next() {
		s.state.Term++
	}
	s.entries = s.entries[:at-s.first]
	for range 1 + m.rand.IntN(4) {
		e := pb.Entry{Index: at, Term: s.state.Term, Cmd: bytes.Repeat([]byte{byte(at)}, m.rand.IntN(900))}
		if len(e.Cmd) == 0 {
			e.Cmd = nil
		}
		u.EntriesToSave = append(u.EntriesToSave, e)
		at++
	}
	s.entries = append(s.entries, u.EntriesToSave...)
	if m.rand.IntN(2) == 0 {
		s.state.Commit = max(s.state.Commit, at-1-m.rand.Uint64N(2))
	}
	u.State, s.committed = s.state, s.state.Commit
}

func (m *model) compact(l *Log, id uint64, s *shape) error {
	s.snapshot = pb.Snapshot{ShardID: id, Index: s.state.Commit, Term: s.state.Term, Membership: pb.Membership{ConfigChangeId: 1}}
	if err := l.SaveSnapshots([]pb.Update{{ShardID: id, ReplicaID: 1, Snapshot: s.snapshot}}); err != nil {
		return err
	}
	keep := m.rand.Uint64N(8)
	if s.snapshot.Index > keep && s.snapshot.Index-keep >= s.first {
		to := s.snapshot.Index - keep
		s.entries, s.first = s.entries[to+1-s.first:], to+1
		return l.RemoveEntriesTo(id, 1, to)
	}
	return nil
}

func (m *model) install(s *shape, u *pb.Update) {
	index := max(s.next(), s.snapshot.Index+1) + m.rand.Uint64N(20)
	s.state.Term, s.state.Commit, s.committed = s.state.Term+1, index, index
	s.snapshot = pb.Snapshot{ShardID: u.ShardID, Index: index, Term: s.state.Term, Membership: pb.Membership{ConfigChangeId: 2}}
	s.first, s.entries = index+1, nil
	u.State, u.Snapshot = s.state, s.snapshot
	if m.rand.IntN(2) == 0 {
		m.append(s, u)
	}
}

// check returns an error unless the log has of a group what the shape says. After a start the
// commit index may be an older one that had to last, and entries that were given up may be
// there.
func (s *shape) check(l *Log, id uint64, started bool) error {
	if _, err := l.GetBootstrapInfo(id, 1); s.bootstrap != (err == nil) || err != nil && !errors.Is(err, raftio.ErrNoBootstrapInfo) {
		return fmt.Errorf("bootstrap: %v", err)
	}
	snapshot, err := l.GetSnapshot(id, 1)
	if err != nil || snapshot.Index != s.snapshot.Index || snapshot.Term != s.snapshot.Term {
		return fmt.Errorf("snapshot %d, want %d: %v", snapshot.Index, s.snapshot.Index, err)
	}
	rs, err := l.ReadRaftState(id, 1, snapshot.Index)
	if pb.IsEmptyState(s.state) {
		if !errors.Is(err, raftio.ErrNoSavedLog) {
			return fmt.Errorf("state of a group that has none: %+v, %v", rs, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if rs.State.Commit < snapshot.Index {
		return fmt.Errorf("commit index %d is behind the snapshot's, %d", rs.State.Commit, snapshot.Index)
	}
	if rs.State.Term != s.state.Term || rs.State.Vote != s.state.Vote || rs.State.Commit > s.state.Commit || rs.State.Commit < s.committed ||
		!started && rs.State.Commit != s.state.Commit {
		return fmt.Errorf("state %+v, want %+v, at least commit %d", rs.State, s.state, s.committed)
	}
	return s.checkEntries(l, id, rs, snapshot.Index)
}

func (s *shape) checkEntries(l *Log, id uint64, rs raftio.RaftState, low uint64) error {
	want := uint64(0)
	if s.next() > low+1 {
		want = s.next() - low - 1
	}
	if rs.EntryCount != want || want > 0 && rs.FirstIndex != low+1 {
		return fmt.Errorf("entries from %d: %d, want %d from %d", rs.FirstIndex, rs.EntryCount, want, low+1)
	}
	from := max(s.first, 1)
	ents, _, err := l.IterateEntries(nil, 0, id, 1, from, s.next(), 1<<40)
	if err != nil || len(ents) != len(s.entries) {
		return fmt.Errorf("%d entries from %d, want %d: %v", len(ents), from, len(s.entries), err)
	}
	for i, e := range ents {
		if w := s.entries[i]; e.Index != w.Index || e.Term != w.Term || !bytes.Equal(e.Cmd, w.Cmd) {
			return fmt.Errorf("entry %d is %d of term %d, want %d of term %d", from+uint64(i), e.Index, e.Term, w.Index, w.Term)
		}
	}
	return nil
}

func openOn(d disk) (*Log, error) {
	return Open(Options{SegmentSize: 8 << 10, Log: slog.New(slog.DiscardHandler), disk: d})
}

// A log is compared with a model through random histories with crashes, in which any sectors of
// the last write may be missing. What was acknowledged is there; of what was not, all or
// nothing.
func TestLogAgainstModel(t *testing.T) {
	for seed := range uint64(*runs) {
		if err := history(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func history(seed uint64) error {
	d, m := newFakeDisk(seed), newModel(seed)
	l, err := openOn(d)
	if err != nil {
		return err
	}
	for restart := range 6 {
		if restart < 5 {
			d.powerOff(m.rand.IntN(150))
		}
		for range m.rand.IntN(40 * len(m.groups)) {
			id, after, err := m.step(l)
			if err != nil {
				if !errors.Is(err, errPower) {
					return err
				}
				l2, err := openOn(d.restart())
				if err != nil {
					return fmt.Errorf("after a crash: %w", err)
				}
				before := m.groups[id]
				if errBefore, errAfter := before.check(l2, id, true), after.check(l2, id, true); errBefore == nil && errAfter != nil {
					m.groups[id] = before
				} else if errAfter == nil {
					m.groups[id] = after
				} else if !partly(before, after, l2, id) {
					return fmt.Errorf("group %d after a crash is neither as before (%v) nor as after (%v)", id, errBefore, errAfter)
				} else {
					between := before.clone()
					between.snapshot = after.snapshot
					m.groups[id] = between
				}
				_ = l2.Close()
				break
			}
			m.groups[id] = after
			if err := after.check(l, id, false); err != nil {
				return fmt.Errorf("group %d: %w", id, err)
			}
		}
		if m.rand.IntN(2) == 0 {
			d.powerOff(0)
		}
		_ = l.Close() // it fails if the power is off
		d = d.restart()
		if l, err = openOn(d); err != nil {
			return fmt.Errorf("start %d: %w", restart, err)
		}
		for id, s := range m.groups {
			if err := s.check(l, id, true); err != nil {
				return fmt.Errorf("group %d after start %d: %w", id, restart, err)
			}
			rs, err := l.ReadRaftState(id, 1, s.snapshot.Index)
			if err == nil {
				s.state.Commit, s.committed = rs.State.Commit, rs.State.Commit
			}
		}
	}
	return l.Close()
}

// partly reports whether a group has the snapshot of a compaction and still its entries, which
// are given up afterwards.
func partly(before, after *shape, l *Log, id uint64) bool {
	between := before.clone()
	between.snapshot = after.snapshot
	return between.check(l, id, true) == nil
}
