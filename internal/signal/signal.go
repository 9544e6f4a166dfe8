// Package signal tells goroutines that something they look at has changed: rows of a
// registry, an index, an owner. A Signal carries no value. It says "look again", and the
// receiver reads what it needs from where it is kept.
//
// # Missing nothing
//
// A receiver takes the channel first, then looks, then waits:
//
//	for {
//		changed := s.Changed()
//		if done := look(); done {
//			return
//		}
//		select {
//		case <-changed:
//		case <-ctx.Done():
//			return
//		}
//	}
//
// The sender changes what is looked at first and calls Raise then. In this order no change
// is lost: one that comes after Changed closes the channel, and one that came before is seen
// by the look. A receiver that looks first and takes the channel then may wait for ever.
//
// # What it is not
//
// Several calls of Raise between two looks are one signal: a receiver that must see each value
// needs a queue. A signal is not kept for a receiver that comes later; such a receiver looks
// before it waits anyway. A wake-up that must be kept until its one receiver takes it, which
// does not look before it waits, is a channel with one slot. What happens once (a node is
// closed, a call is done) is a channel that is closed once.
package signal

import "sync"

// Signal wakes every goroutine that waits on Changed, once for each Raise. The zero value
// is ready. It must not be copied after its first use. Its methods never block, so they may
// be called with locks held.
type Signal struct {
	mu sync.Mutex
	// next is closed and removed by Raise; nil while no one has asked for it, so that a
	// Raise that no one waits for allocates nothing.
	next chan struct{}
}

// Changed returns a channel that the next Raise closes. Take it before looking at what may
// change.
func (s *Signal) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Raise closes all channels that Changed has returned so far. Call it after the change.
func (s *Signal) Raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}
