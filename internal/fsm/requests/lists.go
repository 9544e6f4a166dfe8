package requests

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// name tells a request from all others.
type name struct{ client, sequence uint64 }

// entry is a result that is remembered.
type entry struct {
	name name
	// acked is what the request promised.
	acked uint64
	clock kv.Clock
	// print is the command's fingerprint.
	print  uint64
	result command.Result
	// bytes is what it counts in the bounds.
	bytes int

	session *session
	// before and after are the neighbours by log index, next is the client's own.
	before, after, next *entry
}

// session is what is known of one client.
type session struct {
	client uint64
	// acked is the greatest of its promises: it has the answers of all requests up
	// to that.
	acked uint64
	// forgotten is the greatest sequence whose result was dropped without such a
	// promise.
	forgotten uint64
	// used is the log index of its last new request, and clock the log's then.
	used  kv.Index
	clock kv.Clock
	// lost is the table's lost when the client became known: an earlier session of
	// it may have been used up to then.
	lost kv.Clock

	// The client's entries by log index, which is the order in which they go.
	first, last  *entry
	count, bytes int

	// before and after are the neighbours by last use.
	before, after *session
	// changed is whether it is to be stored, and derived whether it follows from
	// its entries: it was never stored, for they are from before there were
	// sessions.
	changed, derived bool
}

// use takes note of a new request.
func (s *session) use(e *entry) {
	s.acked = max(s.acked, e.acked)
	s.used, s.clock = e.result.Index, e.clock
}

func (s *session) push(e *entry) {
	if s.last == nil {
		s.first = e
	} else {
		s.last.next = e
	}
	s.last = e
	s.count++
	s.bytes += e.bytes
}

// pop removes the first entry.
func (s *session) pop() {
	e := s.first
	s.first, e.next = e.next, nil
	if s.first == nil {
		s.last = nil
	}
	s.count--
	s.bytes -= e.bytes
}

// entryList is a list of entries by log index.
type entryList struct{ first, last *entry }

func (l *entryList) append(e *entry) {
	e.before, e.after = l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.last.after = e
	}
	l.last = e
}

func (l *entryList) remove(e *entry) {
	if e.before == nil {
		l.first = e.after
	} else {
		e.before.after = e.after
	}
	if e.after == nil {
		l.last = e.before
	} else {
		e.after.before = e.before
	}
	e.before, e.after = nil, nil
}

// sessionList is a list of sessions by last use.
type sessionList struct{ first, last *session }

func (l *sessionList) append(s *session) {
	s.before, s.after = l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.after = s
	}
	l.last = s
}

func (l *sessionList) remove(s *session) {
	if s.before == nil {
		l.first = s.after
	} else {
		s.before.after = s.after
	}
	if s.after == nil {
		l.last = s.before
	} else {
		s.after.before = s.before
	}
	s.before, s.after = nil, nil
}
