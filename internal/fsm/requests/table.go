// Package requests is the part of the state machine that remembers the results of
// requests which carry an id, so that a retry is answered and not applied again.
// It is replicated state: what it remembers, what it forgets and when follow from
// the log alone, and the table in memory is at any time what Load would read back.
//
// A client may ask for anything at any rate. Whatever it sends, one request costs
// a bounded number of steps, and what is kept of it has a bound of its own.
package requests

import (
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// Bounds say how much is remembered. They are part of the state machine: replicas
// that differ in them come to different states.
type Bounds struct {
	// ClientEntries and ClientBytes bound the results of one client.
	ClientEntries, ClientBytes int
	// Bytes bounds the results of all clients.
	Bytes int
	// Sessions is of how many clients more is known than nothing.
	Sessions int
	// Age is how long, by the log's clock, a result is kept, and for how long
	// after the first attempt a client may repeat a request.
	Age time.Duration
}

// DefaultBounds are those of all replicas. Of a client about a thousand results are
// remembered; ours have at most half as many requests open under one id.
func DefaultBounds() Bounds {
	return Bounds{
		ClientEntries: 1 << 10, ClientBytes: 240 << 10, Bytes: 32 << 20, Sessions: 1 << 16,
		Age: 10 * time.Minute,
	}
}

const (
	// removals is how many results and clients one new request removes at most.
	// Adding takes one place of each, so that all bounds are held within a few
	// requests, and no batch grows with the table.
	removals = 8

	// MaxOps and MaxBytes are the most that one request adds to a batch: its
	// record, those that it removes, the record of its client and of every client
	// whose result it removes, and that of the clients which are gone.
	MaxOps   = 3 + 2*removals
	MaxBytes = recordRoom + sessionRoom + removals*(deleteRoom+sessionRoom) + deleteRoom

	recordRoom  = 128
	sessionRoom = 96
	deleteRoom  = 40
)

// Table is the table of one vBucket. It is used by one goroutine at a time, but for
// Stats.
type Table struct {
	bounds   Bounds
	sessions map[uint64]*session
	entries  map[name]*entry
	// order has all entries by log index, and clients all sessions by their last
	// new request, the longest ago first.
	order   list[entry, *entry]
	clients list[session, *session]
	// bytes is what the entries take.
	bytes int
	// lost is the greatest clock of the last use of a client that is not known any
	// more: of requests up to then the table may have known more than it does.
	lost kv.Clock
	// changed are the sessions, and lostChanged is whether lost is, to be stored
	// with the present batch.
	changed     []*session
	lostChanged bool

	stats      counters
	key, value []byte // memory that is used again
}

func newTable(bounds Bounds) *Table {
	return &Table{bounds: bounds, sessions: make(map[uint64]*session), entries: make(map[name]*entry)}
}

// Lookup returns what c, which stands at index, is answered without being applied:
// the result of the first attempt, or that it is too late for one. The second
// result is false if c is new. now is the log's clock.
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
		// The first attempt's result may have gone with what was known of the
		// client then.
		return t.tooLate(index), true
	}
	return command.Result{}, false
}

func (t *Table) tooLate(index kv.Index) command.Result {
	t.stats.tooLate.Add(1)
	return command.Result{Index: index, Code: command.TooLate}
}

// past reports whether what happened at a clock is too long ago for a repeat. It is
// not if it is of a later time: the log's clock was set back.
func (t *Table) past(clock, now kv.Clock) bool {
	return now >= clock && now-clock >= kv.Clock(t.bounds.Age.Milliseconds())
}

// Add remembers what c, a request that Lookup does not know, came to, forgets a
// bounded part of what is acknowledged or beyond the bounds, and adds all that to
// b. Flush adds the rest at the end of the batch.
func (t *Table) Add(b *storage.Batch, c *command.Command, result command.Result, now kv.Clock) {
	id := c.Request
	e := &entry{
		name:  name{id.Client, id.Sequence},
		acked: min(id.Acked, id.Sequence-min(id.Sequence, 1)), // nothing acknowledges itself
		clock: now, print: c.Fingerprint(), result: result,
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

// Empty reports whether the table knows nothing.
func (t *Table) Empty() bool { return len(t.sessions) == 0 && t.lost == 0 }

func (t *Table) insert(e *entry, s *session) {
	e.session = s
	t.entries[e.name] = e
	t.order.append(e)
	s.push(e)
	t.bytes += e.bytes
}

// shrink removes what s, whose request is new, has acknowledged and what is beyond
// the bounds, as far as one request may.
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

// forget drops a result that its client may still ask for, and marks that it may:
// it is never applied again.
func (t *Table) forget(b *storage.Batch, e *entry) {
	if s := e.session; e.name.sequence > s.acked {
		t.stats.forgotten.Add(1)
		s.forgotten = max(s.forgotten, e.name.sequence)
		t.change(s)
	}
	t.drop(b, e)
}

// drop removes e, which is the oldest of its client.
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
		t.change(e.session) // what it was derived from is not there any more
	}
}

// evict removes one result of s, the client that has been silent for longest, or
// all that is known of it when there is none left.
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

// change has s stored with the present batch.
func (t *Table) change(s *session) {
	if !s.changed {
		s.changed = true
		t.changed = append(t.changed, s)
	}
}

// Flush adds to b what has changed of clients since the last one. Every batch that
// has something of Add in it ends with it.
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
