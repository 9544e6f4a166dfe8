package requests

import "sync/atomic"

// Stats say how large a table is, and what has become of requests since it was
// loaded.
type Stats struct {
	// Entries are the results that are remembered, Sessions the clients of which
	// more is known than nothing, and Bytes is about what all of them take.
	Entries, Sessions, Bytes uint64
	// Forgotten are the results that were dropped though their clients might still
	// have asked for them, and Evicted the clients that were forgotten.
	Forgotten, Evicted uint64
	// TooLate are the requests that were refused since it cannot be told whether
	// they were applied before.
	TooLate uint64
}

// counters are what Stats reads while the table is in use.
type counters struct {
	entries, sessions, bytes    atomic.Uint64
	forgotten, evicted, tooLate atomic.Uint64
}

// publish makes the table's size visible to Stats.
func (t *Table) publish() {
	t.stats.entries.Store(uint64(len(t.entries)))
	t.stats.sessions.Store(uint64(len(t.sessions)))
	t.stats.bytes.Store(uint64(t.bytes + len(t.sessions)*sessionBytes))
}

// Stats may be called at any time.
func (t *Table) Stats() Stats {
	return Stats{
		Entries: t.stats.entries.Load(), Sessions: t.stats.sessions.Load(), Bytes: t.stats.bytes.Load(),
		Forgotten: t.stats.forgotten.Load(), Evicted: t.stats.evicted.Load(), TooLate: t.stats.tooLate.Load(),
	}
}
