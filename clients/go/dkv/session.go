package dkv

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dkvdb/dkv/api/serverpb"
)

// session gives mutations their ids, and knows up to which one all are answered,
// so that servers forget the results.
type session struct {
	client uint64

	mu sync.Mutex
	// next is the sequence of the next request; all up to acked are done.
	next, acked uint64
	// done is a ring of bits: bit s%len tells of sequence s, acked < s < next,
	// whether it is done.
	done []uint64
}

// A server forgets results that are too old or too many; a request may be sent
// again only well before.
const (
	// repeatWithin is half of the time for which results are kept.
	repeatWithin = 5 * time.Minute
	// repeatAmong is how many later requests of this client there may be. A
	// vBucket remembers 2^18 results of all clients.
	repeatAmong = 1 << 14
)

func newSession() *session {
	s := &session{next: 1, done: make([]uint64, 16)}
	for s.client == 0 { // 0 is no id
		s.client = rand.Uint64()
	}
	return s
}

// begin fills in the id of a new request.
func (s *session) begin(id *serverpb.RequestID) {
	s.mu.Lock()
	if s.next-s.acked >= uint64(len(s.done))*64 {
		s.grow()
	}
	id.ClientId, id.Sequence, id.Acked = s.client, s.next, s.acked
	s.next++
	s.mu.Unlock()
}

// end tells that a request will not be sent any more.
func (s *session) end(sequence uint64) {
	s.mu.Lock()
	s.set(sequence)
	for s.acked+1 < s.next && s.isDone(s.acked+1) {
		s.acked++
		s.clear(s.acked)
	}
	s.mu.Unlock()
}

// repeatable tells whether servers certainly still know a request that was first
// sent at the given time.
func (s *session) repeatable(sequence uint64, first time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(first) < repeatWithin && s.next-sequence < repeatAmong
}

func (s *session) at(sequence uint64) (word *uint64, bit uint64) {
	i := sequence % (uint64(len(s.done)) * 64)
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

// grow doubles the ring.
func (s *session) grow() {
	larger := session{done: make([]uint64, 2*len(s.done))}
	for q := s.acked + 1; q < s.next; q++ {
		if s.isDone(q) {
			larger.set(q)
		}
	}
	s.done = larger.done
}
