package requests

import "sync/atomic"

// Stats say how large a table is, and how many results it has dropped and requests it has
// rejected since it was loaded.
type Stats struct {
	// Entries is the number of remembered results, Sessions the number of known clients,
	// and Bytes about the memory that all of them take.
	Entries, Sessions, Bytes uint64
	// Forgotten is the number of results that were dropped before their clients had
	// acknowledged them, and Evicted the number of clients that were dropped.
	Forgotten, Evicted uint64
	// TooLate is the number of requests that were rejected because it is unknown whether
	// they were applied before.
	TooLate uint64
}

// counters are the numbers that Stats may read while the table is in use.
type counters struct {
	entries, sessions, bytes    atomic.Uint64
	forgotten, evicted, tooLate atomic.Uint64
}

// publish updates the sizes that Stats reads.
func (t *Table) publish() {
	t.stats.entries.Store(uint64(len(t.entries)))
	t.stats.sessions.Store(uint64(len(t.sessions)))
	t.stats.bytes.Store(uint64(t.bytes + len(t.sessions)*sessionBytes))
}

// Stats returns the table's Stats. It may be called at any time.
func (t *Table) Stats() Stats {
	return Stats{
		Entries: t.stats.entries.Load(), Sessions: t.stats.sessions.Load(), Bytes: t.stats.bytes.Load(),
		Forgotten: t.stats.forgotten.Load(), Evicted: t.stats.evicted.Load(), TooLate: t.stats.tooLate.Load(),
	}
}
