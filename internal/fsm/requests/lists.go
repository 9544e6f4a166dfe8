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
	// Its neighbours are those by log index, next is the client's own.
	neighbours[entry]
	next *entry
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

	// Its neighbours are those by last use.
	neighbours[session]
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

// neighbours is what a list keeps in each of its elements, so that neither adding nor
// removing one allocates or searches.
type neighbours[T any] struct{ before, after *T }

func (n *neighbours[T]) links() *neighbours[T] { return n }

// listed is a *T that has neighbours in a list.
type listed[T any] interface {
	*T
	links() *neighbours[T]
}

// list is a list of elements that are in no other one. The zero value is empty.
type list[T any, P listed[T]] struct{ first, last *T }

// append adds e, which is in no list, at the end.
func (l *list[T, P]) append(e *T) {
	*P(e).links() = neighbours[T]{before: l.last}
	if l.last == nil {
		l.first = e
	} else {
		P(l.last).links().after = e
	}
	l.last = e
}

// remove removes e, which is in the list.
func (l *list[T, P]) remove(e *T) {
	at := P(e).links()
	if at.before == nil {
		l.first = at.after
	} else {
		P(at.before).links().after = at.after
	}
	if at.after == nil {
		l.last = at.before
	} else {
		P(at.after).links().before = at.before
	}
	*at = neighbours[T]{}
}
