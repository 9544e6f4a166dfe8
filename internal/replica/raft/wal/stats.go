package wal

import (
	"github.com/lni/dragonboat/v4/raftio"

	"github.com/dkvdb/dkv/internal/histogram"
)

// Stats are figures of a log.
type Stats struct {
	// Bytes is the size of the segments, Needed how much of it entries take that are needed.
	Bytes, Needed uint64
	// Written is how many bytes were written since the log was opened.
	Written uint64
	// Syncs is how long writes took until they were durable.
	Syncs histogram.Counts
}

// Stats returns the log's figures.
func (l *Log) Stats() Stats {
	s := Stats{Written: l.written.Load(), Syncs: l.syncs.Counts()}
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, segment := range l.segments {
		s.Bytes += uint64(segment.size)
		s.Needed += uint64(segment.live)
	}
	return s
}

// Window is the entries that the log has of a group, from First to the one before Next.
type Window struct {
	First, Next uint64
	// Bytes is what they take.
	Bytes uint64
}

// Window returns the entries of a group's replica; they are none if the log does not know it.
func (l *Log) Window(of raftio.NodeInfo) Window {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.groups[of]
	if g == nil {
		return Window{}
	}
	w := Window{First: g.first(), Next: g.next}
	for _, b := range g.blocks {
		w.Bytes += uint64(b.weight)
	}
	return w
}
