package requests

import (
	"github.com/dkvdb/dkv/internal/command"
	"github.com/dkvdb/dkv/internal/kv"
)

// name identifies a request.
type name struct{ client, sequence uint64 }

// entry is a remembered result.
type entry struct {
	name name
	// acked is the request's Acked.
	acked uint64
	clock kv.Clock
	// print is the command's fingerprint.
	print  uint64
	result command.Result
	// bytes is its size as the bounds count it.
	bytes int

	session *session
	// neighbours are the entries before and after it by log index; next is the client's
	// next entry.
	neighbours[entry]
	next *entry
}

// session is what the table records about one client.
type session struct {
	client uint64
	// acked is the highest Acked of its requests: it has the answers to all requests up to
	// that.
	acked uint64
	// forgotten is the highest sequence whose result was dropped before it was
	// acknowledged.
	forgotten uint64
	// used and clock are the log index and the log's clock of its last new request.
	used  kv.Index
	clock kv.Clock
	// lost is the table's lost when the client became known: it may have had an earlier
	// session up to then.
	lost kv.Clock

	// The client's entries in the order of log indexes, in which they are removed.
	first, last  *entry
	count, bytes int

	// neighbours are the sessions before and after it by last use.
	neighbours[session]
	// changed means that it has to be stored. derived means that it was never stored and
	// is made from its entries, which an older release without sessions has written.
	changed, derived bool
}

// use records a new request.
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

// neighbours are the links that a list keeps in each of its elements, so that neither adding
// nor removing an element allocates or searches.
type neighbours[T any] struct{ before, after *T }

//lint:ignore U1000 lists call it through listed
func (n *neighbours[T]) links() *neighbours[T] { return n }

// listed is a *T that can be an element of a list.
type listed[T any] interface {
	*T
	links() *neighbours[T]
}

// list is a linked list. An element can be in one list only. The zero value is empty.
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
