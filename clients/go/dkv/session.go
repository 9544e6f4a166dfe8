package dkv

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

const (
	// repeatWithin is how long after its first attempt a request may be repeated: half
	// of the time for which servers know its result, or know that they have dropped it.
	repeatWithin = 5 * time.Minute
	// window bounds the open requests of one session, counted from the oldest to the
	// newest: half of the results that servers keep of a client.
	window = 512
)

// sessions assign ids to mutations. A single slow request keeps all later ones of its
// session from being acknowledged to the servers, so there are as many sessions as the
// requests in progress need.
type sessions struct {
	mu sync.Mutex
	// all are the sessions; the first one assigns the next id.
	all []*session
}

// session is what servers take for one client. It tracks up to which sequence all of its
// requests are answered, so that servers can drop their results.
type session struct {
	owner  *sessions
	client uint64
	// next is the sequence of the next request; all up to acked are done.
	next, acked uint64
	// done is a ring of bits: bit s%window is set if sequence s is done, for
	// acked < s < next.
	done [window / 64]uint64
}

func newSessions() *sessions {
	s := new(sessions)
	s.add()
	return s
}

// add makes a session, which assigns the next id.
func (s *sessions) add() *session {
	n := &session{owner: s, next: 1}
	for n.client == 0 { // 0 means no id
		n.client = rand.Uint64()
	}
	s.all = append(s.all, n)
	s.moveToFront(len(s.all) - 1)
	return n
}

func (s *sessions) moveToFront(i int) { s.all[0], s.all[i] = s.all[i], s.all[0] }

// begin fills in the id of a new request and returns its session, whose end must be called
// for it.
func (s *sessions) begin(id *serverpb.RequestID) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.all[0]
	if n.room() == 0 {
		n = s.mostRoom()
	}
	id.ClientId, id.Sequence, id.Acked = n.client, n.next, n.acked
	n.next++
	return n
}

// mostRoom returns the session with the fewest open requests, and makes it assign the next
// ids too.
func (s *sessions) mostRoom() *session {
	most := 0
	for i, n := range s.all {
		if n.room() > s.all[most].room() {
			most = i
		}
	}
	if s.all[most].room() == 0 {
		return s.add()
	}
	s.moveToFront(most)
	return s.all[0]
}

// room returns how many requests may begin before others end.
func (s *session) room() int { return window - int(s.next-1-s.acked) }

// end marks a request as one that will not be sent again.
func (s *session) end(sequence uint64) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.set(sequence)
	for s.acked+1 < s.next && s.isDone(s.acked+1) {
		s.acked++
		s.clear(s.acked)
	}
}

func (s *session) at(sequence uint64) (word *uint64, bit uint64) {
	i := sequence % window
	return &s.done[i/64], 1 << (i % 64)
}

func (s *session) set(sequence uint64) {
	w, bit := s.at(sequence)
	*w |= bit
}

func (s *session) clear(sequence uint64) {
	w, bit := s.at(sequence)
	*w &^= bit
}

func (s *session) isDone(sequence uint64) bool {
	w, bit := s.at(sequence)
	return *w&bit != 0
}
