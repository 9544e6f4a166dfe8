package wal

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lni/dragonboat/v4/raftio"
	pb "github.com/lni/dragonboat/v4/raftpb"

	"github.com/dkvdb/dkv/internal/testkit"
)

func mustOpen(t *testing.T, d disk) *Log {
	t.Helper()
	l, err := openOn(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // a test may have taken the disk away
	return l
}

// entries returns n entries of a term from an index on.
func entries(from uint64, n int, term uint64, size int) (ents []pb.Entry) {
	for i := range uint64(n) {
		ents = append(ents, pb.Entry{Index: from + i, Term: term, Cmd: bytes.Repeat([]byte{byte(from + i)}, size)})
	}
	return ents
}

func save(t *testing.T, l *Log, shard uint64, s pb.State, ents ...pb.Entry) {
	t.Helper()
	if err := l.SaveRaftState([]pb.Update{{ShardID: shard, ReplicaID: 1, State: s, EntriesToSave: ents}}, 1); err != nil {
		t.Fatal(err)
	}
}

func wantEntries(t *testing.T, l *Log, shard uint64, want []pb.Entry) {
	t.Helper()
	from, next := want[0].Index, want[len(want)-1].Index+1
	got, _, err := l.IterateEntries(nil, 0, shard, 1, from, next, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, func(a, b pb.Entry) bool {
		return a.Index == b.Index && a.Term == b.Term && bytes.Equal(a.Cmd, b.Cmd)
	}) {
		t.Fatalf("%d entries from %d are not those that were saved", len(got), from)
	}
}

// A commit index that moves costs no write of its own; it lasts with the next write, with a
// stop, and after a while by itself.
func TestCommitIndexIsWrittenAlong(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1, Vote: 1}, entries(1, 3, 1, 10)...)
	writes := d.written()
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 1})
	if d.written() != writes {
		t.Error("it is written at once")
	}
	save(t, l, 1, pb.State{}, entries(4, 1, 1, 10)...)
	committed := func(d *fakeDisk) uint64 {
		l := mustOpen(t, d.restart())
		rs, err := l.ReadRaftState(1, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		return rs.State.Commit
	}
	if got := committed(d); got != 1 {
		t.Errorf("the next write took commit %d along", got)
	}
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 2})
	testkit.Eventually(t, "the commit index is durable", func() bool { return committed(d) == 2 })
	save(t, l, 1, pb.State{Term: 1, Vote: 1, Commit: 4})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := committed(d); got != 4 {
		t.Errorf("the stop left commit %d", got)
	}
}

// A commit index never is durable before the entries that it counts: Dragonboat does not start
// with such a log. The write of another group, between, must not take it along.
func TestCommitIndexIsNotDurableBeforeItsEntries(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	l.mu.Lock()
	u := pb.Update{ShardID: 1, ReplicaID: 1, State: pb.State{Term: 1, Commit: 2}, EntriesToSave: entries(2, 1, 1, 10)}
	if _, ok := l.record(&u); !ok {
		t.Error("there is nothing to be saved")
	}
	l.mu.Unlock()
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	after := mustOpen(t, d.restart())
	rs, err := after.ReadRaftState(1, 1, 0)
	if err != nil || rs.State.Commit > rs.EntryCount {
		t.Errorf("commit %d of %d entries: %v", rs.State.Commit, rs.EntryCount, err)
	}
}

// Bytes that change on the disk are found at the start, unless they are in what no one was
// told is durable.
func TestDamageIsFound(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		d := newFakeDisk(seed)
		l := mustOpen(t, d)
		for i := range uint64(60) {
			save(t, l, 1, pb.State{Term: 1}, entries(1+i, 1, 1, rnd.IntN(600))...)
		}
		last := l.current()
		_ = l.Close()
		d = d.restart()
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range d.files {
				if !yield(name) {
					return
				}
			}
		})
		name := names[rnd.IntN(len(names))]
		f := d.files[name]
		at := rnd.IntN(len(f.data))
		f.data[at] ^= 1 << rnd.IntN(8)
		l, err := openOn(d)
		var damage *DamageError
		switch {
		case errors.As(err, &damage):
			continue
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		}
		rs, err := l.ReadRaftState(1, 1, 0)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if rs.EntryCount < 59 || rs.EntryCount == 59 && name != segmentName(last.number) {
			t.Fatalf("seed %d: byte %d of %s changed, and %d of 60 entries are there", seed, at, name, rs.EntryCount)
		}
		_ = l.Close()
	}
}

func TestMissingSegmentIsFound(t *testing.T) {
	for _, gone := range []int{0, 1} {
		d := newFakeDisk(1)
		l := mustOpen(t, d)
		save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
		for i := range uint64(40) {
			save(t, l, 1, pb.State{}, entries(2+i, 1, 1, 1000)...)
		}
		_ = l.Close()
		d = d.restart()
		delete(d.files, segmentName(l.segments[gone].number))
		var damage *DamageError
		if _, err := openOn(d); !errors.As(err, &damage) || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without segment %d of %d: %v", gone, len(l.segments), err)
		}
	}
}

func TestNewerFormatIsNamed(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	s := l.current()
	h := s.header()
	h[8] = Format + 1
	sum := segmentSum(h)
	h[12], h[13], h[14], h[15] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	copy(d.files[segmentName(s.number)].data, h)
	var newer *NewerError
	if _, err := openOn(d.restart()); !errors.As(err, &newer) || newer.Format != Format+1 {
		t.Errorf("error %v", err)
	}
}

// A value that was made to look like a write is not taken for one when the write around it is
// torn.
func TestValueThatLooksLikeAFrame(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	// What a client can know: everything but the seed.
	records := (&record{kind: kindRemoved, group: raftio.NodeInfo{ShardID: 1, ReplicaID: 1}}).appendTo(nil)
	forged := slices.Concat(make([]byte, 8), frameHead(0, l.writer.number+1, [][]byte{records}), records)
	for pad := range 8 {
		e := pb.Entry{Index: 2 + uint64(pad), Term: 1, Cmd: append(make([]byte, pad), bytes.Repeat(forged, 20)...)}
		save(t, l, 1, pb.State{}, e)
	}
	s := l.current()
	d = d.restart()
	clear(d.files[segmentName(s.number)].data[s.end-64 : s.end]) // the end of the last write is not there
	l = mustOpen(t, d)
	rs, err := l.ReadRaftState(1, 1, 0)
	if err != nil || rs.EntryCount != 8 {
		t.Errorf("%d entries are left: %v", rs.EntryCount, err)
	}
}

// Workers save at the same time, others read and give up entries, and what each was told is
// durable is there after a crash.
func TestConcurrentUse(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	const workers, each = 6, 120
	var all sync.WaitGroup
	for w := range uint64(workers) {
		shard := w + 1
		all.Go(func() {
			for i := range uint64(each) {
				u := pb.Update{ShardID: shard, ReplicaID: 1, State: pb.State{Term: 1, Commit: i}, EntriesToSave: entries(1+i, 1, 1, 200)}
				if err := l.SaveRaftState([]pb.Update{u}, shard); err != nil {
					t.Error(err)
				}
				if i%20 == 19 {
					if err := l.SaveSnapshots([]pb.Update{{ShardID: shard, ReplicaID: 1, Snapshot: pb.Snapshot{Index: i, Term: 1}}}); err != nil {
						t.Error(err)
					}
					if shard != 1 { // its entries are needed for ever, and are moved
						if err := l.RemoveEntriesTo(shard, 1, i-5); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
		all.Go(func() {
			for range each {
				from := uint64(1)
				if rs, err := l.ReadRaftState(shard, 1, 0); err == nil && rs.EntryCount > 0 {
					from = rs.FirstIndex
				}
				if _, _, err := l.IterateEntries(nil, 0, shard, 1, from, from+10, 1<<20); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for range 100 { // room is made
		save(t, l, 2, pb.State{}, entries(each+1, 1, 2, 1000)...)
	}
	l2 := mustOpen(t, d.restart())
	wantEntries(t, l2, 1, entries(1, each, 1, 200))
	for shard := uint64(3); shard <= workers; shard++ {
		wantEntries(t, l2, shard, entries(each-5, 6, 1, 200))
	}
}

// What is given up makes room, and what an idle group still needs is no reason to keep the
// segments of all others.
func TestRoomIsGivenBack(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 3, 1, 100)...)
	for i := range uint64(2000) {
		save(t, l, 2, pb.State{Term: 1}, entries(1+i, 1, 1, 400)...)
		if i%10 == 9 {
			if err := l.SaveSnapshots([]pb.Update{{ShardID: 2, ReplicaID: 1, Snapshot: pb.Snapshot{Index: i, Term: 1}}}); err != nil {
				t.Fatal(err)
			}
			if err := l.RemoveEntriesTo(2, 1, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	testkit.Eventually(t, "room is given back", func() bool {
		names, _ := d.list()
		return len(names) <= 10
	})
	wantEntries(t, l, 1, entries(1, 3, 1, 100))
	wantEntries(t, mustOpen(t, d.restart()), 1, entries(1, 3, 1, 100))
}

// What a snapshot makes unnecessary becomes the next segments, at once several: only a log that
// grows fills files with zeros.
func TestFilesAreUsedAgain(t *testing.T) {
	const several = 3
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	next := uint64(1)
	// round fills segments and gives them up; it returns how many files were filled meanwhile.
	round := func() int {
		d.mu.Lock()
		before := d.filled
		d.mu.Unlock()
		for first := l.current(); l.current() == nil || first == nil || l.current().number < first.number+several; next++ {
			save(t, l, 1, pb.State{Term: 1}, entries(next, 1, 1, 1000)...)
			if first == nil {
				first = l.current()
			}
		}
		if err := l.RemoveEntriesTo(1, 1, next-1); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "segments are given back", func() bool {
			l.mu.RLock()
			defer l.mu.RUnlock()
			return len(l.segments) == 1
		})
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.filled - before
	}
	for range 3 {
		round() // the first segments are small
	}
	if n := round(); n > 0 {
		t.Errorf("%d files were filled with zeros", n)
	}
	names, err := d.list()
	if most := several + 2; len(names) > most || err != nil {
		t.Errorf("there are %d files, want at most %d (%v)", len(names), most, err)
	}
}

// A write that is larger than a segment gets one of its own.
func TestLargeWrite(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 3, 1, 100<<10)...)
	save(t, l, 1, pb.State{}, entries(4, 1, 1, 10)...)
	wantEntries(t, mustOpen(t, d.restart()), 1, append(entries(1, 3, 1, 100<<10), entries(4, 1, 1, 10)...))
}

// While the disk is full a write waits, and goes on when there is room.
func TestWaitsForRoom(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	d.setFull(true)
	saved := make(chan error, 1)
	go func() {
		saved <- l.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, EntriesToSave: entries(2, 1, 1, 20<<10)}}, 1)
	}()
	select {
	case err := <-saved:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	d.setFull(false)
	if err := <-saved; err != nil {
		t.Fatal(err)
	}
	wantEntries(t, mustOpen(t, d.restart()), 1, append(entries(1, 1, 1, 10), entries(2, 1, 1, 20<<10)...))
}

// A write for which there is no room, in a segment that is there, waits and is done again whole.
func TestWriteWaitsForRoom(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	d.mu.Lock()
	d.noRoom = 1
	d.mu.Unlock()
	save(t, l, 1, pb.State{Term: 1}, entries(2, 1, 1, 1000)...)
	wantEntries(t, mustOpen(t, d.restart()), 1, append(entries(1, 1, 1, 10), entries(2, 1, 1, 1000)...))
}

// After a write has failed nothing is acknowledged: what is on the disk is not known.
func TestFailedWriteIsFinal(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	d.powerOff(0)
	for range 2 {
		if err := l.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, EntriesToSave: entries(2, 1, 1, 10)}}, 1); !errors.Is(err, errPower) {
			t.Errorf("error %v", err)
		}
	}
	d.powerOff(-1)
	if err := l.SaveRaftState([]pb.Update{{ShardID: 1, ReplicaID: 1, EntriesToSave: entries(2, 1, 1, 10)}}, 1); !errors.Is(err, errPower) {
		t.Errorf("then %v", err)
	}
}

// The same through the operating system, with a file that is used again.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	open := func() *Log {
		l, err := Open(Options{Dir: dir, SegmentSize: 64 << 10, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	for i := range uint64(400) {
		save(t, l, 7, pb.State{Term: 1, Commit: i}, entries(1+i, 1, 1, 2000)...)
		if i > 20 {
			if err := l.RemoveEntriesTo(7, 1, i-20); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	defer l.Close()
	wantEntries(t, l, 7, entries(390, 11, 1, 2000))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) > 8 {
		t.Errorf("%d files are left: %v", len(files), err)
	}
}

// Reading ends as Dragonboat asks for: with the entry that is over the size, and with the
// first that is not there.
func TestIterateEntriesEnds(t *testing.T) {
	l := mustOpen(t, newFakeDisk(1))
	save(t, l, 1, pb.State{Term: 1}, entries(1, 4, 1, 100)...)
	save(t, l, 1, pb.State{}, entries(5, 4, 1, 100)...)
	l.recent.limit = 0
	for _, c := range []struct {
		low, high, size uint64
		want            int
	}{{1, 9, 1 << 20, 8}, {1, 9, 0, 1}, {1, 9, 250, 2}, {3, 7, 1 << 20, 4}, {8, 20, 1 << 20, 1}, {9, 20, 1 << 20, 0}, {1, 2, 0, 1}} {
		got, _, err := l.IterateEntries(nil, 0, 1, 1, c.low, c.high, c.size)
		if err != nil || len(got) != c.want {
			t.Errorf("[%d, %d) up to %d: %d entries, want %d: %v", c.low, c.high, c.size, len(got), c.want, err)
		}
	}
	if _, err := l.ReadRaftState(2, 1, 0); !errors.Is(err, raftio.ErrNoSavedLog) {
		t.Errorf("a group that is not there: %v", err)
	}
}

func groupID(shard uint64) raftio.NodeInfo { return raftio.NodeInfo{ShardID: shard, ReplicaID: 1} }

// A header that has changed is no reason to take a segment for one that was never begun.
func TestDamagedHeaderIsFound(t *testing.T) {
	for bit := range 32 * 8 {
		d := newFakeDisk(1)
		l := mustOpen(t, d)
		save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
		d = d.restart()
		d.files[segmentName(1)].data[bit/8] ^= 1 << (bit % 8)
		var damage *DamageError
		if _, err := openOn(d); !errors.As(err, &damage) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
}
