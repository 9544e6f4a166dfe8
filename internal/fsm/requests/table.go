// Package requests remembers the results of requests that carry an id, so that a retry gets
// the first result and is not applied twice. Without it, a client whose connection broke
// could not know whether its increment counts once, twice or not at all.
//
// The table is a part of the replicated state: what it remembers, what it drops and when
// follow from the log alone, and the table in memory is always what Load would read back. A
// replica that remembered more or less than another would answer a retry differently.
//
// Clients may send any ids at any rate. Whatever they send, one request does a bounded amount
// of work, and the memory for each client and for all of them is bounded.
package requests

import (
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Bounds say how much is remembered. They are part of the state machine: replicas with
// different bounds would diverge.
type Bounds struct {
	// ClientEntries and ClientBytes bound the results of one client.
	ClientEntries, ClientBytes int
	// Bytes bounds the results of all clients.
	Bytes int
	// Sessions bounds the number of known clients.
	Sessions int
	// Age is how long a result is kept by the log's clock, and for how long after the
	// first attempt a client may repeat a request.
	Age time.Duration
}

// DefaultBounds returns the bounds that all replicas have. About a thousand results of each
// client are remembered; the Go and Java clients have at most half as many requests open
// under one id.
func DefaultBounds() Bounds {
	return Bounds{
		ClientEntries: 1 << 10, ClientBytes: 240 << 10, Bytes: 32 << 20, Sessions: 1 << 16,
		Age: 10 * time.Minute,
	}
}

const (
	// removals is how many results and clients one new request removes at most. It adds
	// at most one of each, so that the table is within all bounds after a few requests,
	// and no batch grows with the table.
	removals = 8

	// MaxOps and MaxBytes are how many operations and bytes one request adds to a batch
	// at most: its record, those that it removes, the records of its client and of each
	// client whose result it removes, and the record of dropped clients.
	MaxOps   = 3 + 2*removals
	MaxBytes = recordRoom + sessionRoom + removals*(deleteRoom+sessionRoom) + deleteRoom

	recordRoom  = 128
	sessionRoom = 96
	deleteRoom  = 40
)

// Table is the table of one vBucket. It must be used by one goroutine at a time, except for
// Stats.
type Table struct {
	bounds   Bounds
	sessions map[uint64]*session
	entries  map[name]*entry
	// order has all entries in the order of log indexes, and clients has all sessions in
	// the order of their last new requests, the oldest first.
	order   list[entry, *entry]
	clients list[session, *session]
	// bytes is the size of all entries.
	bytes int
	// lost is the latest clock at which a client that was dropped since had made its last
	// request. The table may have dropped results of requests up to then.
	lost kv.Clock
	// changed lists the sessions that have to be stored with the current batch, and
	// lostChanged says whether lost has to.
	changed     []*session
	lostChanged bool

	stats      counters
	key, value []byte // reused memory
}

func newTable(bounds Bounds) *Table {
	return &Table{bounds: bounds, sessions: make(map[uint64]*session), entries: make(map[name]*entry)}
}

// Lookup returns the answer to c, the command at index, if c must not be applied: the result
// of the first attempt, or a rejection. The second result is false if c is new. now is the
// log's clock.
func (t *Table) Lookup(c *command.Command, index kv.Index, now kv.Clock) (command.Result, bool) {
	id := c.Request
	if e := t.entries[name{id.Client, id.Sequence}]; e != nil {
		if e.print != c.Fingerprint() {
			return command.Result{Index: index, Code: command.RequestMismatch}, true
		}
		return e.result, true
	}
	lost := t.lost
	if s := t.sessions[id.Client]; s != nil {
		if id.Sequence <= s.acked {
			return command.Result{Index: index, Code: command.StaleRequest}, true
		}
		if id.Sequence <= s.forgotten {
			return t.tooLate(index), true
		}
		lost = min(lost, s.lost)
	}
	if id.Repeat && lost != 0 && !t.past(lost, now) {
		// The first attempt's result may have been dropped with the client's earlier
		// session.
		return t.tooLate(index), true
	}
	return command.Result{}, false
}

func (t *Table) tooLate(index kv.Index) command.Result {
	t.stats.tooLate.Add(1)
	return command.Result{Index: index, Code: command.TooLate}
}

// past reports whether a clock is too long ago for a repeat. One that is ahead of now is not:
// the log's clock was set back.
func (t *Table) past(clock, now kv.Clock) bool {
	return now >= clock && now-clock >= kv.Clock(t.bounds.Age.Milliseconds())
}

// Add remembers the result of c, a request that is new to Lookup, drops a bounded number of
// results that are acknowledged or beyond the bounds, and adds both to b. Flush adds the rest
// at the end of the batch.
func (t *Table) Add(b *storage.Batch, c *command.Command, result command.Result, now kv.Clock) {
	t.AddResult(b, c.Request, c.Fingerprint(), result, now)
}

// AddResult is Add for a request whose command is not known here, but its fingerprint. print
// is that.
func (t *Table) AddResult(b *storage.Batch, id kv.RequestID, print uint64, result command.Result, now kv.Clock) {
	e := &entry{
		name:  name{id.Client, id.Sequence},
		acked: min(id.Acked, id.Sequence-min(id.Sequence, 1)), // nothing acknowledges itself
		clock: now, print: print, result: result,
	}
	t.key, t.value = appendEntryKey(t.key[:0], result.Index), e.append(t.value[:0])
	e.bytes = entryBytes(t.value)
	b.Put(storage.Meta, t.key, t.value)
	s := t.sessions[id.Client]
	if s == nil {
		s = &session{client: id.Client, lost: t.lost}
		t.sessions[id.Client] = s
	} else {
		t.clients.remove(s)
	}
	s.use(e)
	t.clients.append(s)
	t.insert(e, s)
	t.change(s)
	if t.lost > now { // the log's clock was set back
		t.lost, t.lostChanged = now, true
	}
	t.shrink(b, s, now)
}

// Empty reports whether the table has never remembered anything.
func (t *Table) Empty() bool { return len(t.sessions) == 0 && t.lost == 0 }

func (t *Table) insert(e *entry, s *session) {
	e.session = s
	t.entries[e.name] = e
	t.order.append(e)
	s.push(e)
	t.bytes += e.bytes
}

// shrink removes results that s, whose request is new, has acknowledged, and what is beyond
// the bounds, as much as one request may.
func (t *Table) shrink(b *storage.Batch, s *session, now kv.Clock) {
	for range removals {
		switch oldest := t.order.first; {
		case s.first != nil && s.first.name.sequence <= s.acked:
			t.drop(b, s.first)
		case s.count > t.bounds.ClientEntries || s.bytes > t.bounds.ClientBytes:
			t.forget(b, s.first)
		case oldest != nil && (t.bytes > t.bounds.Bytes || t.past(oldest.clock, now)):
			t.forget(b, oldest)
		case len(t.sessions) > t.bounds.Sessions:
			t.evict(b, t.clients.first, now)
		default:
			return
		}
	}
}

// forget drops a result that its client may still ask for, and records that in the session,
// so that the request is never applied again.
func (t *Table) forget(b *storage.Batch, e *entry) {
	if s := e.session; e.name.sequence > s.acked {
		t.stats.forgotten.Add(1)
		s.forgotten = max(s.forgotten, e.name.sequence)
		t.change(s)
	}
	t.drop(b, e)
}

// drop removes e, the oldest entry of its client.
func (t *Table) drop(b *storage.Batch, e *entry) {
	t.key = appendEntryKey(t.key[:0], e.result.Index)
	b.Delete(storage.Meta, t.key)
	t.order.remove(e)
	e.session.pop()
	t.bytes -= e.bytes
	if t.entries[e.name] == e {
		delete(t.entries, e.name)
	}
	if e.session.derived {
		t.change(e.session) // the entry that it was derived from is gone
	}
}

// evict removes one result of s, the client that has been silent for longest, or the client
// itself if it has none left.
func (t *Table) evict(b *storage.Batch, s *session, now kv.Clock) {
	if s.first != nil {
		t.forget(b, s.first)
		return
	}
	t.key = appendSessionKey(t.key[:0], s.client)
	b.Delete(storage.Meta, t.key)
	t.clients.remove(s)
	delete(t.sessions, s.client)
	s.changed = false
	t.stats.evicted.Add(1)
	if used := min(s.clock, now); used > t.lost {
		t.lost, t.lostChanged = used, true
	}
}

// change marks s to be stored with the current batch.
func (t *Table) change(s *session) {
	if !s.changed {
		s.changed = true
		t.changed = append(t.changed, s)
	}
}

// Flush adds to b the sessions that have changed since the last Flush. It must be the last
// call for every batch that Add was called for.
func (t *Table) Flush(b *storage.Batch) {
	if len(t.changed) == 0 {
		return
	}
	for _, s := range t.changed {
		if !s.changed {
			continue // evicted since
		}
		t.key, t.value = appendSessionKey(t.key[:0], s.client), s.append(t.value[:0])
		b.Put(storage.Meta, t.key, t.value)
		s.changed, s.derived = false, false
	}
	clear(t.changed)
	t.changed = t.changed[:0]
	if t.lostChanged {
		b.Put(storage.Meta, keyLost, appendClock(t.value[:0], t.lost))
		t.lostChanged = false
	}
	t.publish()
}
