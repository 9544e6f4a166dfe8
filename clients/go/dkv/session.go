package dkv

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

const (
	// repeatWithin is for how long after its first attempt a request is sent again:
	// half of the time for which servers promise to know its result, or that they
	// may have forgotten it.
	repeatWithin = 5 * time.Minute
	// window is how many requests of one session are open at most, counted from
	// the oldest to the newest: half of what servers remember of a client.
	window = 512
)

// sessions give mutations their ids. One session would do, but that a single
// request which takes long keeps all later ones of its session from being
// acknowledged: there are as many as the requests under way need.
type sessions struct {
	mu sync.Mutex
	// all are the sessions; the first gives the next id.
	all []*session
}

// session is one client to the servers: it knows up to which of its requests all
// are answered, so that servers forget the results.
type session struct {
	owner  *sessions
	client uint64
	// next is the sequence of the next request; all up to acked are done.
	next, acked uint64
	// done is a ring of bits: bit s%window tells of sequence s, acked < s < next,
	// whether it is done.
	done [window / 64]uint64
}

func newSessions() *sessions {
	s := new(sessions)
	s.add()
	return s
}

// add makes a session that gives the next id.
func (s *sessions) add() *session {
	n := &session{owner: s, next: 1}
	for n.client == 0 { // 0 is no id
		n.client = rand.Uint64()
	}
	s.all = append(s.all, n)
	s.first(len(s.all) - 1)
	return n
}

func (s *sessions) first(i int) { s.all[0], s.all[i] = s.all[i], s.all[0] }

// begin fills in the id of a new request, which is to be ended at the session that
// is returned.
func (s *sessions) begin(id *serverpb.RequestID) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.all[0]
	if n.room() == 0 {
		n = s.roomiest()
	}
	id.ClientId, id.Sequence, id.Acked = n.client, n.next, n.acked
	n.next++
	return n
}

// roomiest returns the session with the fewest open requests, which gives the next
// ids too.
func (s *sessions) roomiest() *session {
	most := 0
	for i, n := range s.all {
		if n.room() > s.all[most].room() {
			most = i
		}
	}
	if s.all[most].room() == 0 {
		return s.add()
	}
	s.first(most)
	return s.all[0]
}

// room is how many requests may begin before others end.
func (s *session) room() int { return window - int(s.next-1-s.acked) }

// end tells that a request will not be sent any more.
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
