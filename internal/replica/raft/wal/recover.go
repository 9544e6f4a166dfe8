package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// DamageError is the error of Open, and of a read, if the log does not hold what was written
// to it.
type DamageError struct{ Text string }

func (e *DamageError) Error() string { return e.Text }

func damaged(s *segment, at int64, why string) error {
	return &DamageError{Text: fmt.Sprintf("%s is damaged at %d: %s", segmentName(s.number), at, why)}
}

// recover reads all segments.
func (l *Log) recover() error {
	numbers, err := l.segmentNumbers()
	if err != nil {
		return err
	}
	for i, n := range numbers {
		if i > 0 && n != numbers[i-1]+1 {
			return &DamageError{Text: fmt.Sprintf("%s is missing", segmentName(numbers[i-1]+1))}
		}
		if err := l.recoverSegment(n, i == len(numbers)-1); err != nil {
			return err
		}
	}
	l.writer.number = max(l.writer.number, 1)
	if err := l.rewriteTail(); err != nil {
		return err
	}
	for _, g := range l.groups {
		if first, next, ok := g.missing(); ok {
			return &DamageError{Text: fmt.Sprintf("entries %d to %d of shard %d are missing", first, next-1, g.id.ShardID)}
		}
	}
	return nil
}

// rewriteTail writes the last frame of all once more. The system may have it in memory only, after
// a write that failed: this process would answer for it, and write behind it, and a power loss
// would take it back.
func (l *Log) rewriteTail() error {
	if len(l.segments) == 0 {
		return nil
	}
	s := l.segments[len(l.segments)-1]
	p, err := s.read(s.tail, int(min(s.end, s.size)-s.tail))
	if err != nil {
		return err
	}
	return s.file.writeSync([][]byte{p}, s.tail)
}

func (l *Log) segmentNumbers() (numbers []uint64, err error) {
	names, err := l.disk.list()
	for _, name := range names {
		if n, is := segmentNumber(name); is {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// recoverSegment reads a segment. The last may never have been begun, or end with a torn
// frame.
func (l *Log) recoverSegment(number uint64, last bool) error {
	f, err := l.disk.open(segmentName(number))
	if err != nil {
		return err
	}
	size, err := f.size()
	if err != nil {
		return errorOf(err, f.Close())
	}
	s := newSegment(number, f, size)
	l.segments = append(l.segments, s)
	p := make([]byte, size)
	if _, err := f.ReadAt(p, 0); err != nil && err != io.EOF {
		return err
	}
	begun, err := s.begin(p)
	switch {
	case err != nil:
		return err
	case !begun && (!last || !unused(p, number) || l.writer.number == 0 && number != 1):
		return damaged(s, 0, "its header is not as it was written")
	case !begun:
		return l.dropUnused(s)
	}
	return l.recoverFrames(s, p, last)
}

// unused reports whether a file was made to become a segment and never was: its first sector,
// which a crash leaves as it was or as it was to be, is empty or that of another segment.
func unused(p []byte, number uint64) bool {
	if len(p) < segmentHeader || !slices.ContainsFunc(p[:segmentHeader], func(b byte) bool { return b != 0 }) {
		return true
	}
	before := segment{number: binary.LittleEndian.Uint64(p[16:])}
	begun, err := before.begin(p)
	return err == nil && begun && before.number < number
}

// recoverFrames reads the frames of a segment, whose file holds p. The first is a checkpoint: a
// last segment without a whole one was never begun.
func (l *Log) recoverFrames(s *segment, p []byte, last bool) error {
	s.end = segmentHeader
	before := l.writer.number
	for {
		records, number, ok := readFrame(s.seed, p[min(s.end, s.size):])
		if !ok {
			break
		}
		if l.writer.number != 0 && number != l.writer.number {
			return damaged(s, s.end, fmt.Sprintf("write %d follows write %d", number, l.writer.number-1))
		}
		l.writer.number = number + 1
		if err := l.replay(s, s.end+frameHeader, records, s.end == segmentHeader); err != nil {
			return err
		}
		s.tail = s.end
		s.end = aligned(s.end + frameHeader + int64(len(records)))
	}
	if err := s.noneBehind(p, l.writer.number); err != nil {
		return err
	}
	switch {
	case s.end > segmentHeader:
		return nil
	case !last, before == 0 && s.number != 1:
		// Segments before it are given back only when it has one.
		return damaged(s, s.end, "it has no checkpoint")
	}
	l.writer.number = before
	return l.dropUnused(s)
}

// noneBehind returns an error if there is a frame behind the end of a segment: a frame was
// durable before the next was written, so what the log ends with was whole once.
func (s *segment) noneBehind(p []byte, next uint64) error {
	for at := s.end + frameAlign; at < s.size-frameHeader; at += frameAlign {
		if number, _, ok := frameBegins(s.seed, p[at:]); ok && (next == 0 || number > next && number-next <= uint64(s.size/frameHeader)) {
			return damaged(s, s.end, "a write is not as it was written, but one behind it is")
		}
	}
	return nil
}

// dropUnused removes the last segment, which was never begun.
func (l *Log) dropUnused(s *segment) error {
	l.segments = l.segments[:len(l.segments)-1]
	return errorOf(s.release(), l.disk.remove(segmentName(s.number)))
}

// replay applies the records of a frame, which begin at an offset: those of a checkpoint, if the
// frame has to be one.
func (l *Log) replay(s *segment, at int64, records []byte, checkpoint bool) error {
	for len(records) > 0 {
		body, rest, err := splitRecord(records)
		if err != nil {
			return damaged(s, at, err.Error())
		}
		h, err := decode(body)
		if err == nil && checkpoint != (h.kind == kindCheckpoint) {
			err = errors.New("a segment begins with a checkpoint, and has no other")
		}
		if err != nil {
			return damaged(s, at, err.Error())
		}
		// What is kept must not keep the whole segment in memory.
		h.snapshot, h.bootstrap = slices.Clone(h.snapshot), slices.Clone(h.bootstrap)
		l.replayRecord(&h, s, at, recordHeader+len(body))
		at += int64(recordHeader + len(body))
		records = rest
	}
	return nil
}

func (l *Log) replayRecord(h *header, s *segment, at int64, length int) {
	switch h.kind {
	case kindCheckpoint:
		g := l.group(h.group)
		if h.state != nil {
			g.state, g.saved = *h.state, *h.state
		}
		g.bootstrap = h.bootstrap
		g.setSnapshot(h.snapshot)
		if h.next != 0 {
			l.drop(g.limit(h.first, h.next))
			g.low = h.first
		}
	case kindMoved:
		b := &block{first: h.firstEntry, next: h.firstEntry + h.count, segment: s, at: at, length: length, weight: length}
		for _, b := range l.group(h.group).insert(b) {
			l.keep(b)
		}
	default:
		l.apply(&h.record, h.firstEntry, h.firstEntry+h.count, s, at, length)
	}
}
