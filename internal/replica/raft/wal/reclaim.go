package wal

import (
	"slices"
)

// reclaimSoon has segments given back that are not needed any more.
func (l *Log) reclaimSoon() {
	select {
	case l.reclaim <- struct{}{}:
	default:
	}
}

func (l *Log) reclaimer() {
	for {
		select {
		case <-l.stop:
			return
		case <-l.reclaim:
		}
		for !l.stopped() {
			again, err := l.reclaimOldest()
			if err != nil {
				l.opts.Log.Error("a segment of the Raft log cannot be given back", "dir", l.opts.Dir, "error", err)
			}
			if err != nil || !again {
				break
			}
		}
	}
}

func (l *Log) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// reclaimOldest gives the oldest segment back, or moves what is needed of it if the log is
// much longer than what is needed. It reports whether there may be more to do.
func (l *Log) reclaimOldest() (again bool, err error) {
	l.mu.RLock()
	if len(l.segments) < 2 {
		l.mu.RUnlock()
		return false, nil
	}
	oldest := l.segments[0]
	needed, crowded := oldest.blocks > 0, l.crowded()
	l.mu.RUnlock()
	switch {
	case needed && !crowded:
		return false, nil
	case needed:
		return true, l.moveFrom(oldest)
	}
	// That its entries are not needed must be known after a crash, or they would be missed.
	if err := l.flush(); err != nil {
		return false, err
	}
	return true, l.giveBack(oldest, keptFiles)
}

// giveBack gives the oldest segment back, unless it is gone already, and keeps so many files of those
// that were. The ranges that do not need it are durable.
func (l *Log) giveBack(oldest *segment, kept int) error {
	l.spare.files.Lock()
	defer l.spare.files.Unlock()
	l.mu.Lock()
	gone := l.segments[0] != oldest
	if !gone {
		l.segments = slices.Delete(l.segments, 0, 1)
	}
	l.mu.Unlock()
	if gone {
		return nil
	}
	l.spare.old = append(l.spare.old, oldest)
	return errorOf(oldest.release(), l.removeOld(kept))
}

// makeRoom gives back, while the disk is too full for another segment, what is not needed of the
// log: those who write wait, so no one else can. It belongs to the one that writes.
func (l *Log) makeRoom() error {
	l.mu.RLock()
	var idle []*segment
	for _, s := range l.segments[:max(len(l.segments)-1, 0)] {
		if s.blocks > 0 {
			break
		}
		idle = append(idle, s)
	}
	l.mu.RUnlock()
	// What needs them no more must be durable before they go; what is given up meanwhile is not.
	if current := l.current(); current != nil {
		if fits, err := l.flushIfRoom(current); err != nil || !fits {
			return err
		}
	}
	l.spare.files.Lock()
	err := l.removeOld(1)
	l.spare.files.Unlock()
	for _, s := range idle {
		err = errorOf(err, l.giveBack(s, 1))
	}
	if err != nil {
		l.opts.Log.Warn("a segment of the Raft log cannot be given back; trying again", "dir", l.opts.Dir, "error", err)
	}
	return nil
}

// crowded reports whether the full segments are much longer than what is needed of them. The
// caller holds mu.
func (l *Log) crowded() bool {
	var size, live int64
	for _, s := range l.segments[:len(l.segments)-1] {
		size += s.size
		live += s.live
	}
	return size > 2*live+2*l.opts.SegmentSize
}

const (
	// moveChunk bounds what is moved with one write, in bytes.
	moveChunk = 1 << 20
	// moveRecord bounds the record that entries of several blocks are moved with, in bytes: to
	// read one of them, all of it is read.
	moveRecord = 64 << 10
)

// moveFrom writes again, to the end of the log, what is needed of a segment.
func (l *Log) moveFrom(s *segment) error {
	q := &request{}
	runs := l.runsIn(s)
	if len(runs) == 0 {
		return nil
	}
	defer s.release() // runsIn acquired it; its file is closed for good
	for _, run := range runs {
		r := &record{kind: kindMoved, group: run[0].group.id}
		for i := range run {
			h, err := run[i].was.load()
			if err != nil {
				return err
			}
			if r.entries, _, err = h.unpack(r.entries, run[i].was.first, run[i].was.next, 0, ^uint64(0)); err != nil {
				return err
			}
		}
		q.add(r)
		q.records[len(q.records)-1].moved = run
		if len(q.buf) >= moveChunk {
			if err := l.write(q); err != nil {
				return err
			}
			q = &request{}
		}
	}
	if len(q.records) == 0 {
		return nil
	}
	return l.write(q)
}

// moving is a block and what it was when it was chosen.
type moving struct {
	group *group
	block *block
	was   block
}

// runsIn lists the blocks in a segment, in runs of blocks that follow each other and become one
// record. If there are any, the caller releases the segment.
func (l *Log) runsIn(s *segment) (runs [][]moving) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, g := range l.groups {
		var run []moving
		size := 0
		for _, b := range g.blocks {
			if b.segment != s {
				continue
			}
			if n := len(run); n > 0 && (run[n-1].was.next != b.first || size+b.weight > moveRecord) {
				runs = append(runs, run)
				run, size = nil, 0
			}
			run = append(run, moving{g, b, *b})
			size += b.weight
		}
		if len(run) > 0 {
			runs = append(runs, run)
		}
	}
	if len(runs) > 0 {
		s.acquire()
	}
	return runs
}

// outdated reports whether a request moves entries that have been replaced or given up since it
// was made. It must not be written: after a start they would be taken for those of the group.
func (l *Log) outdated(q *request) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range q.records {
		for j := range q.records[i].moved {
			if !l.unchanged(&q.records[i].moved[j]) {
				return true
			}
		}
	}
	return false
}

// unchanged reports whether a block is needed, up to the same entry as when it was chosen. The
// caller holds mu.
func (l *Log) unchanged(m *moving) bool {
	i, ok := m.group.find(m.was.next - 1)
	return ok && m.group.blocks[i] == m.block && m.block.next == m.was.next && l.groups[m.group.id] == m.group
}

// repoint lets a run refer to where its entries were moved to, as one block. What was given up of
// it meanwhile stays so. The caller holds mu.
func (l *Log) repoint(r *placed, s *segment, at int64) {
	run := slices.DeleteFunc(r.moved, func(m moving) bool { return !l.unchanged(&m) })
	if len(run) == 0 {
		return
	}
	g := run[0].group
	i, _ := g.find(run[0].was.next - 1)
	gone := slices.Clone(g.blocks[i : i+len(run)])
	b := &block{first: gone[0].first, next: gone[len(gone)-1].next, segment: s, at: at, length: r.length, weight: r.length}
	l.drop(gone)
	l.keep(b)
	g.blocks = slices.Replace(g.blocks, i, i+len(run), b)
}
