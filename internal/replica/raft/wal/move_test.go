package wal

import (
	"errors"
	"testing"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// fill writes until the log has begun the next segment.
func fill(t *testing.T, l *Log, shard uint64) {
	t.Helper()
	s := l.current()
	for l.current() == s {
		l.mu.RLock()
		at := l.groups[groupID(shard)].next
		l.mu.RUnlock()
		save(t, l, shard, pb.State{}, entries(at, 1, 1, 1000)...)
	}
}

// Entries that were replaced while they were about to be moved must not come back: the move is
// behind what replaced them in the log, and what replaced them may itself be moved later.
func TestReplacedEntriesAreNotMoved(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 6, 1, 100)...)
	save(t, l, 2, pb.State{Term: 1}, entries(1, 1, 1, 100)...)
	first := l.current()
	fill(t, l, 2)
	var q request
	for _, run := range l.runsIn(first) {
		if run[0].group.id.ShardID == 1 {
			q.add(&record{kind: kindMoved, group: run[0].group.id, entries: entries(1, 6, 1, 100)})
			q.records[0].moved = run
		}
	}
	save(t, l, 1, pb.State{Term: 2}, entries(4, 2, 2, 100)...)
	replaced := l.current()
	fill(t, l, 2)
	if err := l.write(&q); err != nil {
		t.Fatal(err)
	}
	fill(t, l, 2)
	for _, s := range []*segment{first, replaced} {
		if err := l.moveFrom(s); err != nil {
			t.Fatal(err)
		}
	}
	want := append(entries(1, 3, 1, 100), entries(4, 2, 2, 100)...)
	wantEntries(t, l, 1, want)
	// The segments that the entries came from are gone.
	d = d.restart()
	for n := first.number; n <= replaced.number; n++ {
		delete(d.files, segmentName(n))
	}
	wantEntries(t, mustOpen(t, d), 1, want)
}

// Entries that were given up before they were moved stay given up.
func TestTrimmedEntriesStayAway(t *testing.T) {
	g := &group{}
	g.append(&block{first: 1, next: 10})
	g.trim(6)
	g.blocks = nil
	if got := g.insert(&block{first: 1, next: 10}); len(got) != 1 || got[0].first != 6 || got[0].next != 10 {
		t.Errorf("inserted %+v", got)
	}
	if first, next, ok := g.missing(); ok {
		t.Errorf("[%d, %d) is missing", first, next)
	}
}

// A vote that was durable is missed, though there is no entry with it.
func TestLostVoteIsFound(t *testing.T) {
	d := newFakeDisk(1)
	l := mustOpen(t, d)
	save(t, l, 1, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	save(t, l, 2, pb.State{Term: 1}, entries(1, 1, 1, 10)...)
	s := l.current()
	for term := uint64(2); l.current() == s; term++ {
		save(t, l, 1, pb.State{Term: term, Vote: term % 3})
	}
	d = d.restart()
	p := d.files[segmentName(s.number)].data
	last := s.end - aligned(frameHeader+int64(len((&record{kind: kindUpdate, group: groupID(1), state: &pb.State{Term: 200, Vote: 1}}).appendTo(nil))))
	clear(p[last:])
	var damage *DamageError
	if _, err := openOn(d); !errors.As(err, &damage) {
		t.Errorf("error %v", err)
	}
}
