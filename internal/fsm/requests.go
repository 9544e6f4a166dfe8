package fsm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
	"github.com/dkvdb/dkv/internal/storage"
)

// How long the result of a request with an id is remembered. These bounds are
// part of the state machine: changing them makes replicas of different versions
// differ.
const (
	maxRequests   = 1 << 18
	maxRequestAge = 10 * time.Minute
	// maxForgotten bounds how many of each kind, acknowledged and beyond the
	// bounds above, one new request removes: no batch may grow with the table.
	maxForgotten = 1024
)

// requestTable remembers the results of requests that carry an id, so that a
// retry is answered and not applied again. It is replicated state: each entry
// stands in storage.Meta too, under the log index at which it was made, and
// the table in memory is at any time what loadRequests would read back.
type requestTable struct {
	sessions map[uint64]*session
	// order lists the entries by log index; those that were acknowledged
	// since are still in it, marked, until they outnumber the others.
	order []*requestEntry
	head  int
	live  int
	// key and value are memory that add uses again.
	key, value []byte
}

// session is what is remembered of one client.
type session struct {
	bySequence map[uint64]*requestEntry
	// acked is the greatest promise among the remembered requests, and
	// ackedBy the number of requests that made it.
	acked   uint64
	ackedBy int
}

// promise takes note of one request's Acked.
func (s *session) promise(acked uint64) {
	switch {
	case acked > s.acked:
		s.acked, s.ackedBy = acked, 1
	case acked == s.acked:
		s.ackedBy++
	}
}

type requestEntry struct {
	id    kv.RequestID
	clock kv.Clock
	// print is the command's fingerprint.
	print  uint64
	result command.Result
	gone   bool
}

// lookup returns the result of an earlier request with c's id, if c, which stands
// at index, is not the first.
func (t *requestTable) lookup(c *command.Command, index kv.Index) (command.Result, bool) {
	id := c.Request
	s := t.sessions[id.Client]
	if s == nil {
		return command.Result{}, false
	}
	if e := s.bySequence[id.Sequence]; e != nil {
		if e.print != c.Fingerprint() {
			return command.Result{Index: index, Code: command.RequestMismatch}, true
		}
		return e.result, true
	}
	if id.Sequence <= s.acked {
		return command.Result{Index: index, Code: command.StaleRequest}, true
	}
	return command.Result{}, false
}

// add remembers e, forgets what its client has acknowledged and what is beyond
// the bounds, and adds all that to b.
func (t *requestTable) add(b *storage.Batch, e *requestEntry) {
	t.key = appendRequestKey(t.key[:0], e.result.Index)
	t.value = e.append(t.value[:0])
	b.Put(storage.Meta, t.key, t.value)
	before := uint64(0)
	if s := t.sessions[e.id.Client]; s != nil {
		before = s.acked
	}
	t.insert(e)
	t.forgetAcked(b, t.sessions[e.id.Client], before)
	t.forgetOldest(b, e.clock)
	t.compact()
}

// forgetAcked forgets the requests of s that were acknowledged since its acked
// was before, the least sequences first. Whichever is less work: asking for each
// sequence in between, or looking at all that is remembered. What maxForgotten
// leaves over is forgotten when it is too old.
func (t *requestTable) forgetAcked(b *storage.Batch, s *session, before uint64) {
	acked := s.acked
	if acked <= before {
		return
	}
	if acked-before <= uint64(len(s.bySequence)) {
		forgotten := 0
		for seq := before + 1; seq <= acked && forgotten < maxForgotten; seq++ {
			if old := s.bySequence[seq]; old != nil {
				t.forget(b, old)
				forgotten++
			}
		}
		return
	}
	var done []uint64
	for seq := range s.bySequence {
		if seq <= acked {
			done = append(done, seq)
		}
	}
	slices.Sort(done) // a map's order is not the same on all replicas
	for _, seq := range done[:min(len(done), maxForgotten)] {
		t.forget(b, s.bySequence[seq])
	}
}

// forgetOldest holds the table to its bounds as of now.
func (t *requestTable) forgetOldest(b *storage.Batch, now kv.Clock) {
	forgotten := 0
	for ; t.head < len(t.order); t.head++ {
		oldest := t.order[t.head]
		if oldest.gone {
			continue
		}
		// One from before the clock was set back is as good as new.
		tooOld := now > oldest.clock && now-oldest.clock >= kv.Clock(maxRequestAge.Milliseconds())
		if forgotten == maxForgotten || (t.live <= maxRequests && !tooOld) {
			return
		}
		t.forget(b, oldest)
		forgotten++
	}
}

// compact drops the entries of order that are gone once they are the greater
// part: one client that says nothing for long must not keep all the others'.
func (t *requestTable) compact() {
	if len(t.order) < 64 || t.live > len(t.order)/2 {
		return
	}
	kept := make([]*requestEntry, 0, 2*t.live)
	for _, e := range t.order[t.head:] {
		if !e.gone {
			kept = append(kept, e)
		}
	}
	t.order, t.head = kept, 0
}

func (t *requestTable) insert(e *requestEntry) {
	s := t.sessions[e.id.Client]
	if s == nil {
		s = &session{bySequence: make(map[uint64]*requestEntry)}
		t.sessions[e.id.Client] = s
	}
	s.bySequence[e.id.Sequence] = e
	s.promise(e.id.Acked)
	t.order = append(t.order, e)
	t.live++
}

func (t *requestTable) forget(b *storage.Batch, e *requestEntry) {
	t.key = appendRequestKey(t.key[:0], e.result.Index)
	b.Delete(storage.Meta, t.key)
	e.gone = true
	t.live--
	s := t.sessions[e.id.Client]
	delete(s.bySequence, e.id.Sequence)
	if len(s.bySequence) == 0 {
		delete(t.sessions, e.id.Client)
		return
	}
	if e.id.Acked != s.acked {
		return
	}
	if s.ackedBy--; s.ackedBy > 0 {
		return
	}
	// Only what is still remembered counts, or a replica that restarted would
	// know less than this one.
	s.acked = 0
	for _, other := range s.bySequence {
		s.promise(other.id.Acked)
	}
}

func appendRequestKey(dst []byte, index kv.Index) []byte {
	return binary.BigEndian.AppendUint64(append(dst, prefixRequest...), index)
}

const requestVersion = 1

func (e *requestEntry) append(dst []byte) []byte {
	dst = append(dst, requestVersion)
	dst = binary.LittleEndian.AppendUint64(dst, e.id.Client)
	dst = binary.AppendUvarint(dst, e.id.Sequence)
	dst = binary.AppendUvarint(dst, e.id.Acked)
	dst = binary.AppendUvarint(dst, uint64(e.clock))
	dst = binary.LittleEndian.AppendUint64(dst, e.print)
	return command.AppendResult(dst, e.result)
}

func decodeRequest(p []byte) (*requestEntry, error) {
	bad := fmt.Errorf("%w: request record", storage.ErrCorrupt)
	if len(p) < 9 || p[0] != requestVersion {
		return nil, bad
	}
	e := &requestEntry{id: kv.RequestID{Client: binary.LittleEndian.Uint64(p[1:])}}
	p = p[9:]
	clock := uint64(0)
	for _, field := range []*uint64{&e.id.Sequence, &e.id.Acked, &clock} {
		v, n := binary.Uvarint(p)
		if n <= 0 {
			return nil, bad
		}
		*field, p = v, p[n:]
	}
	if len(p) < 8 {
		return nil, bad
	}
	e.clock, e.print, p = kv.Clock(clock), binary.LittleEndian.Uint64(p), p[8:]
	var err error
	if e.result, err = command.DecodeResult(p); err != nil {
		return nil, fmt.Errorf("%w: %w", bad, err)
	}
	return e, nil
}

func loadRequests(r storage.Reader) (*requestTable, error) {
	t := &requestTable{sessions: make(map[uint64]*session)}
	it := r.Iterate(storage.Meta, storage.Prefix(prefixRequest))
	defer it.Close()
	for it.Next() {
		e, err := decodeRequest(it.Value())
		if err != nil {
			return nil, err
		}
		t.insert(e)
	}
	return t, it.Err()
}
