package wal

import (
	"encoding/binary"
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
	for _, g := range l.groups {
		if first, next, ok := g.missing(); ok {
			return &DamageError{Text: fmt.Sprintf("entries %d to %d of shard %d are missing", first, next-1, g.id.ShardID)}
		}
	}
	return nil
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
	case !begun && (!last || !unused(p, number)):
		return damaged(s, 0, "its header is not as it was written")
	case !begun:
		l.segments = l.segments[:len(l.segments)-1]
		return errorOf(s.release(), l.disk.remove(segmentName(number)))
	}
	return l.recoverFrames(s, p)
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

// recoverFrames reads the frames of a segment, whose file holds p.
func (l *Log) recoverFrames(s *segment, p []byte) error {
	s.end = segmentHeader
	for {
		records, number, ok := readFrame(s.seed, p[min(s.end, s.size):])
		if !ok {
			break
		}
		if l.writer.number != 0 && number != l.writer.number {
			return damaged(s, s.end, fmt.Sprintf("write %d follows write %d", number, l.writer.number-1))
		}
		l.writer.number = number + 1
		if err := l.replay(s, s.end+frameHeader, records); err != nil {
			return err
		}
		s.end = aligned(s.end + frameHeader + int64(len(records)))
	}
	// A frame was durable before the next was written: what is behind a torn one was not
	// written by this log, unless the torn one was whole once.
	for at := s.end + frameAlign; at < s.size-frameHeader; at += frameAlign {
		if _, _, ok := readFrame(s.seed, p[at:]); ok {
			return damaged(s, s.end, "a write is not as it was written, but one behind it is")
		}
	}
	return nil
}

// replay applies the records of a frame, which begin at an offset.
func (l *Log) replay(s *segment, at int64, records []byte) error {
	for len(records) > 0 {
		body, rest, err := splitRecord(records)
		if err != nil {
			return damaged(s, at, err.Error())
		}
		h, err := decode(body)
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
		b := &block{first: h.firstEntry, next: h.firstEntry + h.count, segment: s, at: at, length: length}
		for _, b := range l.group(h.group).insert(b) {
			l.keep(b)
		}
	default:
		l.apply(&h.record, h.firstEntry, h.firstEntry+h.count, s, at, length)
	}
}
