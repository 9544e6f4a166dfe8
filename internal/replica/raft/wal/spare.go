package wal

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dkvdb/dkv/internal/storage"
)

// spare is the segment that is made before it is needed.
type spare struct {
	mu sync.Mutex
	// made delivers it; nil if none was asked for.
	made chan made

	// files is held while a file gets another name or is removed, and guards old: the segments
	// that are not needed any more and whose files are there, oldest first. They go in that
	// order, so that the files that are there have no gap between them. Some are kept, to become the
	// next segments: see keptFiles.
	files sync.Mutex
	old   []*segment
	// removing means that the oldest of them may be gone, since its removal has failed at some point.
	removing bool
}

type made struct {
	segment *segment
	err     error
}

// keptFiles is how many files that are not needed any more are kept. A snapshot makes several
// unnecessary at once, and as many are filled until the next one. To fill a new file with zeros first
// costs about as much as what is then written to it.
const keptFiles = 3

// roomRetry is how often the log tries again while there is no room on its disk.
const roomRetry = time.Second

// ErrFull is the error of a write that was not done because the disk is full and the log is about
// to be closed, or is not to wait.
var ErrFull = errors.New("there is no room on the disk of the Raft log, and it waits no longer for it")

// prepareSpare has the segment behind s made once s is half full.
func (l *Log) prepareSpare(s *segment) {
	if s.end >= s.size/2 {
		l.askForSpare(s.number+1, l.nextSize(s))
	}
}

// askForSpare has a segment made, unless one is, and returns what delivers it.
func (l *Log) askForSpare(number uint64, size int64) chan made {
	l.spare.mu.Lock()
	defer l.spare.mu.Unlock()
	if l.spare.made == nil {
		c := make(chan made, 1)
		l.spare.made = c
		go func() {
			next, err := l.makeSegment(number, size)
			c <- made{next, err}
		}()
	}
	return l.spare.made
}

func (l *Log) nextSize(s *segment) int64 {
	if s == nil {
		return min(firstSegmentSize, l.opts.SegmentSize)
	}
	return min(max(2*s.size, firstSegmentSize), l.opts.SegmentSize)
}

// nextSegment returns the segment behind the current one, with room for need bytes. It belongs
// to the one that writes.
func (l *Log) nextSegment(need int64) (*segment, error) {
	current, number := l.current(), uint64(1)
	if current != nil {
		number = current.number + 1
	}
	need += need/8 + segmentHeader // what room leaves free
	for {
		m, err := l.awaitSpare(l.askForSpare(number, max(need, l.nextSize(current))))
		if err != nil {
			return nil, err
		}
		if m.segment.size >= need {
			return m.segment, nil
		}
		// A single write is larger than the segment that was made beforehand.
		if err := errors.Join(m.segment.release(), l.disk.remove(segmentName(number))); err != nil {
			return nil, err
		}
	}
}

// awaitSpare returns what was made. While there is no room for it, it gives back what it can.
func (l *Log) awaitSpare(c chan made) (made, error) {
	for {
		select {
		case m := <-c:
			l.spare.mu.Lock()
			l.spare.made = nil
			l.spare.mu.Unlock()
			return m, m.err
		case <-time.After(roomRetry):
			if err := l.makeRoom(); err != nil {
				return made{}, err
			}
		}
	}
}

// makeSegment makes a segment's file. While there is no room for it, it waits: nothing can be
// acknowledged, and nothing that was is lost.
func (l *Log) makeSegment(number uint64, size int64) (s *segment, err error) {
	err = l.waitingForRoom(func() error {
		f, err := l.createFile(segmentName(number), size)
		if err != nil {
			return err
		}
		size, err = f.size()
		s = newSegment(number, f, size)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a segment of the Raft log in %s cannot be made: %w", l.opts.Dir, err)
	}
	return s, nil
}

// waitingForRoom does something that needs room on the disk, and does it again for as long as
// there is none.
func (l *Log) waitingForRoom(do func() error) error {
	for waited := false; ; waited = true {
		err := do()
		if storage.Shortage(err) == nil {
			return err
		}
		if !waited {
			l.opts.Log.Error("the Raft log waits for room on its disk", "dir", l.opts.Dir, "error", err)
		}
		select {
		case <-l.stopWaiting:
			return fmt.Errorf("%w: %w", ErrFull, err)
		case <-time.After(roomRetry):
		}
	}
}

// createFile makes a file, out of one that is not needed any more if there is one.
func (l *Log) createFile(name string, size int64) (file, error) {
	l.spare.files.Lock()
	if old := l.reusable(size); old != nil {
		defer l.spare.files.Unlock()
		f, err := l.disk.create(name, size, segmentName(old.number))
		if err == nil {
			l.spare.old = l.spare.old[1:]
		}
		return f, err
	}
	l.spare.files.Unlock()
	return l.disk.create(name, size, "")
}

// reusable returns the oldest file that is not needed any more, if it can become a segment of at
// least size bytes. Those of another size in front of it, from when the log was small or from a
// single large write, are removed. The caller holds files.
func (l *Log) reusable(size int64) *segment {
	for len(l.spare.old) > 0 {
		oldest := l.spare.old[0]
		fits := oldest.size >= size && oldest.size <= l.opts.SegmentSize
		switch {
		case l.spare.removing, !fits && len(l.spare.old) > 1:
			if l.removeOld(len(l.spare.old)-1) != nil {
				return nil // it is tried again when the next segment is given back
			}
		case fits && oldest.uses.Load() == 0:
			return oldest
		default:
			return nil
		}
	}
	return nil
}

// removeOld removes the files that are not needed any more, but the newest ones. What fails is done
// first the next time. The caller holds files.
func (l *Log) removeOld(kept int) error {
	for len(l.spare.old) > kept {
		l.spare.removing = true
		if err := l.disk.remove(segmentName(l.spare.old[0].number)); err != nil {
			return err
		}
		l.spare.old, l.spare.removing = l.spare.old[1:], false
	}
	return nil
}

// close closes what was made and not needed. No one waits for room any more.
func (p *spare) close() error {
	p.mu.Lock()
	c := p.made
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	m := <-c
	if m.err != nil {
		return nil // whom it concerned was told, or will be when the log is opened again
	}
	return m.segment.release()
}
