package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// request is what one caller wants to be durable.
type request struct {
	buf     []byte
	records []placed
	// flush asks for what is in memory of all groups besides.
	flush bool
	done  chan outcome
}

// placed is a record at an offset of a request's buf.
type placed struct {
	record
	at, length int
	// moved is where the record's entries come from, of kindMoved.
	moved []moving
}

func (q *request) add(r *record) {
	at := len(q.buf)
	q.buf = r.appendTo(q.buf)
	q.records = append(q.records, placed{record: *r, at: at, length: len(q.buf) - at})
}

// outcome is what a caller that waits is told.
type outcome struct {
	err error
	// lead asks the caller to write what is queued, its own request among it.
	lead bool
}

// writer makes one write out of what several callers want to be durable at the same time:
// the first that comes writes, those that come meanwhile are the next write.
type writer struct {
	mu      sync.Mutex
	queue   []*request
	writing bool
	// number is that of the next frame, failed the error of a write: what is durable is not
	// known since. Both belong to the one that writes.
	number uint64
	failed error
}

// frameLimit bounds what is written at once, in bytes, unless a single request is larger.
const frameLimit = 8 << 20

// write returns when a request is durable and in the index.
func (l *Log) write(q *request) error {
	w := &l.writer
	w.mu.Lock()
	w.queue = append(w.queue, q)
	if w.writing {
		q.done = make(chan outcome, 1)
		w.mu.Unlock()
		if o := <-q.done; !o.lead {
			return o.err
		}
		w.mu.Lock()
	}
	w.writing = true
	batch := w.take()
	w.mu.Unlock()

	err := l.writeBatch(batch)

	w.mu.Lock()
	if len(w.queue) > 0 {
		w.queue[0].done <- outcome{lead: true}
	} else {
		w.writing = false
	}
	w.mu.Unlock()
	for _, other := range batch {
		if other != q {
			other.done <- outcome{err: err}
		}
	}
	return err
}

// take removes what is written next from the queue. The caller holds mu.
func (w *writer) take() []*request {
	n, bytes := 0, 0
	for n < len(w.queue) && (n == 0 || bytes+len(w.queue[n].buf) <= frameLimit) {
		bytes += len(w.queue[n].buf)
		n++
	}
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	return batch
}

// writeBatch writes requests as one frame and puts them into the index. Only one goroutine at
// a time is in it.
func (l *Log) writeBatch(batch []*request) error {
	w := &l.writer
	if w.failed == nil {
		w.failed = l.writeFrame(batch)
	}
	return w.failed
}

func (l *Log) writeFrame(batch []*request) error {
	batch = slices.DeleteFunc(slices.Clone(batch), l.outdated)
	length := int64(frameHeader)
	var parts [][]byte
	for _, q := range batch {
		parts = append(parts, q.buf)
		length += int64(len(q.buf))
	}
	if slices.ContainsFunc(batch, func(q *request) bool { return q.flush }) {
		// It goes first: what the requests themselves bring is newer.
		if err := l.flushDirty(); err != nil {
			return err
		}
	}
	if length == frameHeader {
		return nil
	}
	s := l.current()
	if s == nil || s.end+length > s.room() {
		var err error
		if s, err = l.roll(length); err != nil {
			return err
		}
	}
	at := s.end + frameHeader
	if err := l.writeAt(s, nil, parts, length); err != nil {
		return err
	}
	l.indexBatch(batch, s, at)
	l.prepareSpare(s)
	return nil
}

// flushDirty writes what is only in memory to the current segment, or begins another one, with a
// checkpoint, if it does not fit. What the log had to say by then is durable when it returns.
func (l *Log) flushDirty() error {
	s := l.current()
	if s == nil {
		return nil // there is nothing yet
	}
	fits, err := l.flushIfRoom(s)
	if err == nil && !fits {
		_, err = l.roll(0)
	}
	return err
}

// flushIfRoom writes what is only in memory to a segment, if it fits, and reports whether it does.
func (l *Log) flushIfRoom(s *segment) (fits bool, err error) {
	dirty, fits := l.takeDirty(s.size - s.end - frameHeader)
	if !fits || len(dirty) == 0 {
		return fits, nil
	}
	return true, l.writeAt(s, nil, [][]byte{dirty}, frameHeader+int64(len(dirty)))
}

// writeAt writes a frame to the end of a segment, behind what is in front.
func (l *Log) writeAt(s *segment, front []byte, parts [][]byte, length int64) error {
	whole := make([][]byte, 0, len(parts)+2)
	if front != nil {
		whole = append(whole, front)
	}
	whole = append(whole, frameHead(s.seed, l.writer.number, parts))
	for _, p := range parts {
		if len(p) > 0 {
			whole = append(whole, p)
		}
	}
	begun := time.Now()
	l.opts.Faults.Sync()
	// A file system that copies on write may have no room for what was made beforehand. What was
	// not written is written again whole, so that it does not matter how much of it is there.
	err := l.waitingForRoom(func() error { return s.file.writeSync(whole, s.end-int64(len(front))) })
	if err != nil {
		return fmt.Errorf("the Raft log cannot write to %s in %s: %w", segmentName(s.number), l.opts.Dir, err)
	}
	l.syncs.Observe(time.Since(begun))
	l.written.Add(uint64(length))
	l.writer.number++
	s.end = aligned(s.end + length)
	return nil
}

// current is the segment that is written to; nil for none.
func (l *Log) current() *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// roll begins the next segment, with a checkpoint, and room for a frame of length bytes.
func (l *Log) roll(length int64) (*segment, error) {
	for more := int64(0); ; more += 1 << 16 {
		size := int64(len(l.checkpoint(nil)))
		s, err := l.nextSegment(segmentHeader + aligned(frameHeader+size+size/8+more) + length)
		if err != nil {
			return nil, err
		}
		// What is in memory may have changed while the segment was made. It counts as saved
		// from here on, so it is written at once.
		checkpoint := l.checkpoint(func(size int64) bool { return segmentHeader+aligned(frameHeader+size)+length <= s.size })
		if checkpoint == nil {
			if err := errors.Join(s.release(), l.disk.remove(segmentName(s.number))); err != nil {
				return nil, err
			}
			continue
		}
		s.end = segmentHeader
		if err := l.writeAt(s, s.header(), [][]byte{checkpoint}, int64(frameHeader+len(checkpoint))); err != nil {
			return nil, err
		}
		l.mu.Lock()
		l.segments = append(l.segments, s)
		l.mu.Unlock()
		l.reclaimSoon()
		return s, nil
	}
}

// checkpoint encodes what every group has besides entries. If save is not nil and true for its
// length, that counts as saved; if it is false, checkpoint returns nil.
func (l *Log) checkpoint(save func(size int64) bool) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := []byte{}
	for _, g := range l.groups {
		b = g.checkpoint().appendTo(b)
	}
	if save == nil {
		return b
	}
	if !save(int64(len(b))) {
		return nil
	}
	for _, g := range l.groups {
		g.clean()
	}
	return b
}

// clean notes that all the group has in memory is about to be durable.
func (g *group) clean() { g.saved, g.trimmed = g.state, false }

// unsaved is the record of what is only in memory.
func (g *group) unsaved() *record {
	r := &record{kind: kindUpdate, group: g.id}
	if g.state != g.saved {
		state := g.state
		r.state = &state
	}
	if g.trimmed {
		r.first, r.next = g.first(), g.next
	}
	return r
}

// dirty reports whether something is only in memory which nothing has to wait for: a commit
// index, or that entries are gone.
func (g *group) dirty() bool { return g.saved != g.state || g.trimmed }

// takeDirty encodes what is only in memory of the groups, unless that takes more than room bytes.
func (l *Log) takeDirty(room int64) (b []byte, fits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var dirty []*group
	for _, g := range l.groups {
		if g.dirty() {
			dirty = append(dirty, g)
			b = g.unsaved().appendTo(b)
		}
	}
	if len(b) > 0 && int64(len(b)) > room {
		return nil, false
	}
	for _, g := range dirty {
		g.clean()
	}
	return b, true
}

// indexBatch puts what was written at an offset into the index.
func (l *Log) indexBatch(batch []*request, s *segment, at int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range batch {
		for i := range q.records {
			r := &q.records[i]
			if r.kind == kindMoved {
				l.repoint(r, s, at+int64(r.at))
				continue
			}
			first, next := r.span()
			if b := l.apply(&r.record, first, next, s, at+int64(r.at), r.length); b != nil {
				l.recent.add(b, slices.Clone(r.entries))
			}
		}
		at += int64(len(q.buf))
	}
}

// apply changes the index by a record with the entries [first, next), and returns their block;
// nil for none. The caller holds mu.
func (l *Log) apply(r *record, first, next uint64, s *segment, at int64, length int) *block {
	if r.kind == kindRemoved {
		if g := l.groups[r.group]; g != nil {
			l.drop(g.blocks)
			delete(l.groups, r.group)
		}
		return nil
	}
	g := l.group(r.group)
	if r.state != nil {
		g.state, g.saved = *r.state, *r.state
	}
	if r.bootstrap != nil {
		g.bootstrap = r.bootstrap
	}
	if r.next != 0 {
		l.drop(g.trim(r.first))
	}
	if r.snapshot != nil {
		index := g.setSnapshot(r.snapshot)
		if r.kind == kindInstalled {
			l.drop(g.blocks)
			g.blocks, g.next, g.low = nil, index+1, index+1
		}
	}
	if first == next {
		return nil
	}
	b := &block{first: first, next: next, segment: s, at: at, length: length, weight: length}
	l.keep(b)
	l.drop(g.append(b))
	return b
}

// keep and drop count what a segment is needed for. The caller holds mu.
func (l *Log) keep(b *block) {
	b.segment.blocks++
	b.segment.live += int64(b.weight)
}

func (l *Log) drop(gone []*block) {
	for _, b := range gone {
		b.segment.blocks--
		b.segment.live -= int64(b.weight)
	}
	if len(gone) > 0 {
		l.reclaimSoon()
	}
}

// flushSoon has what is only in memory written in a while. The caller holds mu.
func (l *Log) flushSoon() {
	if l.flushing || l.closed {
		return
	}
	l.flushing = true
	l.background.Go(func() {
		select {
		case <-l.stop:
			return
		case <-time.After(flushDelay):
		}
		l.mu.Lock()
		l.flushing = false
		l.mu.Unlock()
		// A write that fails makes the next one fail, whose caller is told.
		_ = l.flush()
	})
}

// flush makes durable what is only in memory, or was when it was called.
func (l *Log) flush() error { return l.write(&request{flush: true}) }
