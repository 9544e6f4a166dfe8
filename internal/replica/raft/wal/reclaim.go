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
		for {
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
	l.mu.Lock()
	l.segments = slices.Delete(l.segments, 0, 1)
	l.mu.Unlock()
	return true, l.free(oldest)
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

// moveChunk bounds what is moved with one write, in bytes.
const moveChunk = 1 << 20

// moveFrom writes again, to the end of the log, what is needed of a segment.
func (l *Log) moveFrom(s *segment) error {
	q := &request{}
	for _, m := range l.blocksIn(s) {
		r, err := m.record()
		if err != nil {
			return err
		}
		q.add(r)
		q.records[len(q.records)-1].moved = &m
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

// blocksIn lists the blocks in a segment.
func (l *Log) blocksIn(s *segment) (found []moving) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, g := range l.groups {
		for _, b := range g.blocks {
			if b.segment == s {
				found = append(found, moving{g, b, *b})
			}
		}
	}
	return found
}

// record is the one that repeats the block's entries.
func (m *moving) record() (*record, error) {
	h, err := m.was.load()
	if err != nil {
		return nil, err
	}
	r := &record{kind: kindMoved, group: m.group.id}
	r.entries, _, err = h.unpack(nil, m.was.first, m.was.next, 0, ^uint64(0))
	return r, err
}

// outdated reports whether a request moves entries that have been replaced or given up since it
// was made. It must not be written: after a start they would be taken for those of the group.
func (l *Log) outdated(q *request) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.ContainsFunc(q.records, func(r placed) bool { return r.moved != nil && !l.unchanged(r.moved) })
}

// unchanged reports whether a block is needed, up to the same entry as when it was chosen. The
// caller holds mu.
func (l *Log) unchanged(m *moving) bool {
	i, ok := m.group.find(m.was.next - 1)
	return ok && m.group.blocks[i] == m.block && m.block.next == m.was.next && l.groups[m.group.id] == m.group
}

// repoint lets a block refer to where its entries were moved to, unless it was given up
// meanwhile. The caller holds mu.
func (l *Log) repoint(r *placed, s *segment, at int64) {
	if !l.unchanged(r.moved) {
		return
	}
	b := r.moved.block
	l.drop([]*block{b})
	b.segment, b.at, b.length = s, at, r.length
	l.keep(b)
}
