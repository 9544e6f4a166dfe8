package wal

import (
	"errors"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

// spare is the segment that is made before it is needed.
type spare struct {
	mu sync.Mutex
	// made delivers it; nil if none was asked for.
	made chan made

	// files is held while a file gets another name or is removed, and guards old: a segment
	// that is not needed any more, whose file can become the next one. Files go in the order of
	// their numbers, so that those that are there have no gap between them.
	files sync.Mutex
	old   *segment
}

type made struct {
	segment *segment
	err     error
}

// roomRetry is how often the log tries again to make a segment while there is no room for it.
const roomRetry = time.Second

// prepareSpare has the segment behind s made once s is half full.
func (l *Log) prepareSpare(s *segment) {
	if s.end < s.size/2 {
		return
	}
	l.spare.mu.Lock()
	defer l.spare.mu.Unlock()
	if l.spare.made != nil {
		return
	}
	c := make(chan made, 1)
	l.spare.made = c
	l.background.Go(func() {
		next, err := l.makeSegment(s.number+1, l.nextSize(s))
		c <- made{next, err}
	})
}

func (l *Log) nextSize(s *segment) int64 {
	if s == nil {
		return min(firstSegmentSize, l.opts.SegmentSize)
	}
	return min(max(2*s.size, firstSegmentSize), l.opts.SegmentSize)
}

// nextSegment returns the segment behind the current one, with room for need bytes.
func (l *Log) nextSegment(need int64) (*segment, error) {
	current, number := l.current(), uint64(1)
	if current != nil {
		number = current.number + 1
	}
	l.spare.mu.Lock()
	c := l.spare.made
	l.spare.made = nil
	l.spare.mu.Unlock()
	if c != nil {
		m := <-c
		if m.err != nil || m.segment.size >= need {
			return m.segment, m.err
		}
		// A single write is larger than a segment.
		if err := errors.Join(m.segment.release(), l.disk.remove(segmentName(number))); err != nil {
			return nil, err
		}
	}
	return l.makeSegment(number, max(need, l.nextSize(current)))
}

// makeSegment makes a segment's file. While there is no room for it, it waits: nothing can be
// acknowledged, and nothing that was is lost.
func (l *Log) makeSegment(number uint64, size int64) (*segment, error) {
	for waited := false; ; waited = true {
		f, err := l.createFile(segmentName(number), size)
		if err == nil {
			size, err = f.size()
			return newSegment(number, f, size), err
		}
		if storage.Shortage(err) == nil {
			return nil, err
		}
		if !waited {
			l.opts.Log.Error("the Raft log waits for room on its disk", "dir", l.opts.Dir, "bytes", size, "error", err)
		}
		select {
		case <-l.stop:
			return nil, err
		case <-time.After(roomRetry):
		}
	}
}

// createFile makes a file, out of one that is not needed any more if there is one.
func (l *Log) createFile(name string, size int64) (file, error) {
	l.spare.files.Lock()
	if old := l.spare.old; old != nil && old.size >= size {
		defer l.spare.files.Unlock()
		l.spare.old = nil
		return l.disk.create(name, size, segmentName(old.number))
	}
	l.spare.files.Unlock()
	return l.disk.create(name, size, "")
}

// free gives a segment's file back: to the next segment, if no one reads from it any more.
func (l *Log) free(s *segment) error {
	idle := s.uses.Load() == 1
	if err := s.release(); err != nil {
		return err
	}
	l.spare.files.Lock()
	defer l.spare.files.Unlock()
	if before := l.spare.old; before != nil {
		l.spare.old = nil
		if err := l.disk.remove(segmentName(before.number)); err != nil {
			return err
		}
	}
	if !idle || s.size > l.opts.SegmentSize {
		return l.disk.remove(segmentName(s.number))
	}
	l.spare.old = s
	return nil
}

// close closes what was made and not needed. Nothing is being made any more.
func (p *spare) close() error {
	if p.made == nil {
		return nil
	}
	m := <-p.made
	if m.err != nil {
		return nil // whom it concerned was told, or will be when the log is opened again
	}
	return m.segment.release()
}
