package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/replica/raft/wal/former"
	"github.com/dkvdb/dkv/internal/testkit"
)

// A segment whose checkpoint is torn was never begun: what groups without entries have is in
// the segments before it alone.
func TestTornCheckpoint(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	for shard := uint64(10); shard < 40; shard++ {
		save(t, l, shard, pb.State{Term: 7, Vote: 3})
	}
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	first := l.current()
	before := d.restart()
	fill(t, l, 1)
	next := l.current()
	torn := make([]byte, next.size)
	copy(torn, d.restart().files[segmentName(next.number)].data[:sector])
	before.files[segmentName(next.number)] = &fakeFile{disk: before, data: torn}
	l = mustOpen(t, before)
	if got := l.current().number; got != first.number {
		t.Errorf("segment %d is written to, which has no checkpoint", got)
	}
	fill(t, l, 1)
	if err := l.RemoveEntriesTo(1, 1, 100); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the first segment is given back", func() bool { l.mu.RLock(); defer l.mu.RUnlock(); return l.segments[0] != first })
	rs, err := mustOpen(t, before.restart()).ReadRaftState(10, 1, 0)
	if err != nil || rs.State.Vote != 3 {
		t.Errorf("the vote is lost: %+v, %v", rs.State, err)
	}
}

// A segment that is not the first, and has no checkpoint though those before it are gone, is
// damaged.
func TestLostCheckpointIsFound(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	first := l.current()
	fill(t, l, 1)
	s := l.current()
	d = d.restart()
	delete(d.files, segmentName(first.number))
	clear(d.files[segmentName(s.number)].data[sector:])
	var damage *DamageError
	if _, err := openOn(d); !errors.As(err, &damage) {
		t.Errorf("error %v", err)
	}
}

// A snapshot holds what was committed: after a crash the commit index is not behind it, or
// Dragonboat does not start.
func TestCommitIndexIsNotBehindASnapshot(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 1}, entries(1, 10, 1, 10)...)
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 10})
	if err := l.SaveSnapshots([]pb.Update{{ShardID: 1, ReplicaID: 1, Snapshot: pb.Snapshot{ShardID: 1, Index: 10, Term: 1}}}); err != nil {
		t.Fatal(err)
	}
	if rs, err := mustOpen(t, d.restart()).ReadRaftState(1, 1, 10); err != nil || rs.State.Commit != 10 {
		t.Errorf("%+v, %v", rs, err)
	}
}

// A commit index that is in memory is written in a while, also if another group had something
// to be saved with it.
func TestCommitIndexBesideAnotherGroup(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 1}, entries(1, 10, 1, 10)...)
	if err := l.SaveRaftState([]pb.Update{
		{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Vote: 1, Commit: 10}},
		{ShardID: 2, ReplicaID: 1, State: pb.State{Term: 1}, EntriesToSave: entries(1, 1, 1, 10)},
	}, 1); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the commit index is durable", func() bool {
		rs, err := mustOpen(t, d.restart()).ReadRaftState(1, 1, 0)
		return err == nil && rs.State.Commit == 10
	})
}

// What the system answers to a write is returned, and not taken for bytes written.
func TestFailedWriteOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path) // to read only
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (osFile{f}).writeSync([][]byte{make([]byte, 100)}, 0); err == nil {
		t.Error("a write to a file that is open to be read has no error")
	}
	if err := (osFile{f}).writeThenSync([][]byte{make([]byte, 100)}, 0); err == nil {
		t.Error("in two steps it has none either")
	}
}

// A removal that fails, whether the file is gone or not, is done again before the next one, and before
// a file is used again: else segments are missing in between.
func TestFailedRemovalLeavesNoGap(t *testing.T) {
	for seed := range uint64(8) {
		d := newFakeDisk(seed)
		l := mustOpen(t, d)
		for i := range uint64(100) {
			if i%30 == 0 {
				d.mu.Lock()
				d.failing = 1
				d.mu.Unlock()
			}
			save(t, l, 1, pb.State{Term: 1}, entries(1+i, 1, 1, 1500)...)
			if i%20 == 19 { // several segments at once
				if err := l.RemoveEntriesTo(1, 1, i-3); err != nil {
					t.Fatal(err)
				}
			}
			l2, err := openOn(d.restart())
			if err != nil {
				t.Fatalf("seed %d: after %d writes: %v", seed, i, err)
			}
			_ = l2.Close()
		}
		testkit.Eventually(t, "room is given back", func() bool {
			names, _ := d.list()
			return len(names) < 8
		})
	}
}

// What is left in a file that is used again, however it looks, delays no start.
func TestCraftedRemains(t *testing.T) {
	const size = 4 << 20
	d := newFakeDisk(1)
	s := newSegment(1, nil, size)
	s.end = segmentHeader
	data := make([]byte, size)
	fake := make([]byte, 8)
	binary.LittleEndian.PutUint32(fake, frameMagic)
	binary.LittleEndian.PutUint32(fake[4:], size/2)
	copy(data, bytes.Repeat(fake, size/8))
	copy(data, s.header())
	copy(data[segmentHeader:], frameHead(s.seed, 1, nil))
	d.files[segmentName(1)] = &fakeFile{disk: d, data: data}
	begin := time.Now()
	l := mustOpen(t, d)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the start took %v", took)
	}
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	wantEntries(t, mustOpen(t, d.restart()), 1, entries(1, 1, 1, 10))
}

// What is in memory and does not fit behind the last write is in the next segment's checkpoint,
// and nothing older comes behind that.
func TestFlushThatDoesNotFit(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1, Vote: 1}, entries(1, 3, 1, 100)...)
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 3})
	s := l.current()
	l.mu.Lock()
	s.end = s.size - frameHeader - 4
	l.mu.Unlock()
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if l.current() == s {
		t.Error("no segment was begun")
	}
	if l.groups[groupID(1)].dirty() {
		t.Error("it is in memory alone")
	}
}

// A write that comes with a flush which does not fit goes to the segment that is begun for it.
func TestWriteBesideAFlushThatDoesNotFit(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	const groups = 60
	for shard := uint64(1); shard <= groups; shard++ {
		save(t, l, shard, pb.State{Term: 1, Vote: 1}, entries(1, 1, 1, 1)...)
	}
	for shard := uint64(1); shard <= groups; shard++ {
		save(t, l, shard, pb.State{Term: 1, Vote: 1, Commit: 1})
	}
	s := l.current()
	for s.end+400 < s.room() {
		save(t, l, 1, pb.State{}, entries(l.groups[groupID(1)].next, 1, 1, 100)...)
	}
	last := l.groups[groupID(1)].next
	q := &request{flush: true}
	q.add(&record{kind: kindUpdate, group: groupID(1), entries: entries(last, 1, 1, 10)})
	if err := l.write(q); err != nil {
		t.Fatal(err)
	}
	if l.current() == s {
		t.Fatal("the flush fits")
	}
	l = mustOpen(t, d.restart())
	wantEntries(t, l, 1, entries(last, 1, 1, 10))
	if rs, err := l.ReadRaftState(groups, 1, 0); err != nil || rs.State.Commit != 1 {
		t.Errorf("%+v, %v", rs, err)
	}
}

// While the disk is full, what the log itself does not need any more makes room.
func TestFullDiskIsRelievedByTheLogItself(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	for range 5 {
		fill(t, l, 1)
	}
	at := l.groups[groupID(1)].next
	d.setFull(true)
	saved := make(chan error, 1)
	go func() {
		var err error
		for i := range uint64(20) {
			err = errors.Join(err, l.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, EntriesToSave: entries(at+i, 1, 1, 1000)}}, 1))
		}
		saved <- err
	}()
	testkit.Eventually(t, "the log has reached the end of its last segment", func() bool {
		l.mu.RLock()
		defer l.mu.RUnlock()
		return l.groups[groupID(1)].next > at
	})
	if err := l.RemoveEntriesTo(1, 1, at-1); err != nil {
		t.Fatal(err)
	}
	// A file that is given back becomes the next; to write for ever takes more room.
	testkit.Eventually(t, "a segment that was given back is written to, or all that was saved", func() bool {
		select {
		case err := <-saved:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			return l.current().number >= 7
		}
	})
	// Whatever was given back, a start misses nothing.
	mustOpen(t, d.restart())
	d.setFull(false)
}

// What a start found at the end of the log is on the disk, and not in the system's memory alone,
// before anything comes behind it: also if a spare segment is there.
func TestLastWriteIsWrittenAgain(t *testing.T) {
	for _, spare := range []bool{false, true} {
		d := newFakeDisk(1)
		l := mustOpen(t, d)
		save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
		d = d.restart()
		if spare {
			if _, err := d.create(segmentName(2), 4096, ""); err != nil {
				t.Fatal(err)
			}
		}
		before := d.written()
		mustOpen(t, d)
		if got := d.written() - before; got != 1 {
			t.Errorf("with a spare segment (%t), %d writes", spare, got)
		}
	}
}

// A checkpoint is what the log has when it is written, and not when its segment was asked for.
func TestCheckpointIsOfItsMoment(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 5, 1, 100)...)
	first := l.current()
	for first.end+1100 <= first.room() {
		save(t, l, 2, pb.State{Term: 1}, entries(1, 1, 1, 1000)...)
	}
	d.setFull(true)
	saved := make(chan error, 1)
	go func() {
		saved <- l.SaveRaftState([]pb.Update{{ShardID: 2, ReplicaID: 1, EntriesToSave: entries(2, 2, 1, 1000)}}, 1)
	}()
	testkit.Eventually(t, "the log waits for a segment", func() bool { l.spare.mu.Lock(); defer l.spare.mu.Unlock(); return l.spare.made != nil })
	if err := l.RemoveEntriesTo(1, 1, 3); err != nil {
		t.Fatal(err)
	}
	d.setFull(false)
	if err := <-saved; err != nil {
		t.Fatal(err)
	}
	// The old segment is not there for the range that the checkpoint has.
	d = d.restart()
	l = mustOpen(t, d)
	if got := l.groups[groupID(1)].low; got != 4 {
		t.Errorf("entries from %d on are expected", got)
	}
}

// A log that waits for room can be closed.
func TestCloseWhileTheDiskIsFull(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	d.setFull(true)
	failed := make(chan error, 1)
	go func() {
		for at := uint64(2); ; at++ {
			if err := l.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, EntriesToSave: entries(at, 1, 1, 1000)}}, 1); err != nil {
				failed <- err
				return
			}
		}
	}()
	l.StopWaiting()
	if err := <-failed; !errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFull) {
		t.Errorf("Close: %v", err)
	}
}

// The bytes that count as being in memory do not drift when entries are moved.
func TestRecentDoesNotDrift(t *testing.T) {
	l := mustOpen(t, newFakeDisk(1))
	l.recent.limit = 8000
	for shard := uint64(1); shard < 60; shard++ {
		save(t, l, shard, pb.State{Term: 1}, entries(1, 10, 1, 80)...)
		if err := l.RemoveEntriesTo(shard, 1, 9); err != nil {
			t.Fatal(err)
		}
		if err := l.moveFrom(l.current()); err != nil {
			t.Fatal(err)
		}
	}
	sum := 0
	for _, k := range l.recent.kept {
		sum += k.bytes
	}
	if sum != l.recent.bytes || sum == 0 {
		t.Errorf("%d bytes count, of %d blocks with %d", l.recent.bytes, len(l.recent.kept), sum)
	}
}

// Many small entries that are moved are few records, and a start takes no time for each of them
// that grows with their number.
func TestMovedEntriesAreFewRecords(t *testing.T) {
	l := mustOpen(t, newFakeDisk(1))
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	for i := range uint64(50) {
		save(t, l, 1, pb.State{}, entries(2+i, 1, 1, 10)...)
	}
	runs := l.runsIn(l.current())
	if len(runs) != 1 || len(runs[0]) != 51 {
		t.Fatalf("%d runs", len(runs))
	}
	s := l.current()
	if err := l.moveFrom(s); err != nil {
		t.Fatal(err)
	}
	l.recent.limit = 0
	for _, b := range l.groups[groupID(1)].blocks {
		b.entries = nil
	}
	wantEntries(t, l, 1, entries(1, 51, 1, 10))
}

// A folder may be called as anything.
func TestFormerLogInAnyFolder(t *testing.T) {
	for _, name := range []string{"node[1]", "a*b", "c?", `d\e`} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Join(dir, "logdb-0"), 0o700); err != nil {
			t.Fatal(err)
		}
		if found, err := former.Databases(dir); len(found) != 1 || err != nil {
			t.Error(fmt.Sprintf("%q:", name), found, err)
		}
	}
}

// Workers save, give up and read at the same time when the power goes: the log can be read again,
// and has what each was told is durable.
func TestPowerLossUnderConcurrentUse(t *testing.T) {
	for seed := range uint64(40) {
		d := newFakeDisk(seed)
		l, err := openOn(d)
		if err != nil {
			t.Fatal(err)
		}
		d.powerOff(20 + int(seed)*9)
		const workers = 8
		var all sync.WaitGroup
		var acknowledged [workers + 1]uint64
		for shard := uint64(1); shard <= workers; shard++ {
			all.Go(func() {
				for at := uint64(1); ; at++ {
					us := []pb.Update{{ShardID: shard, ReplicaID: 1, State: pb.State{Term: 1, Commit: at - 1}, EntriesToSave: entries(at, 1, 1, 50*int(shard))}}
					if err := l.SaveRaftState(us, shard); err != nil {
						return
					}
					acknowledged[shard] = at
					if err := l.SaveRaftState([]pb.Update{{ShardID: shard, ReplicaID: 1, State: pb.State{Term: 1, Commit: at}}}, shard); err != nil {
						return
					}
					if at%10 == 0 && shard > 2 { // the entries of the others are moved
						snapshot := pb.Update{ShardID: shard, ReplicaID: 1, Snapshot: pb.Snapshot{Index: at, Term: 1}}
						if l.SaveSnapshots([]pb.Update{snapshot}) != nil || l.RemoveEntriesTo(shard, 1, at-3) != nil {
							return
						}
					}
				}
			})
		}
		all.Wait()
		_ = l.Close()
		if l, err = openOn(d.restart()); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for shard := uint64(1); shard <= workers; shard++ {
			if last := acknowledged[shard]; last > 0 {
				from := uint64(1)
				if shard > 2 {
					from = max(last, 3) - 2
				}
				wantEntries(t, l, shard, entries(from, int(last-from+1), 1, 50*int(shard)))
			}
		}
		_ = l.Close()
	}
}
