package conns

import (
	"os"
	"sync"
	"time"
)

// spareTime is how long a connection may hold the spare descriptor: long enough
// for a question about the node's health.
const spareTime = 5 * time.Second

// spare is a file descriptor that is kept back for when there are none.
type spare struct {
	mu     sync.Mutex
	file   *os.File // nil while it is lent, or cannot be had again
	closed bool
}

func newSpare() *spare {
	s := &spare{}
	s.takeBack()
	return s
}

// lend gives the descriptor up, so that something else can be opened. It reports
// whether there was one.
func (s *spare) lend() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		s.open() // it may have been impossible when it was given back
	}
	if s.file == nil {
		return false
	}
	_ = s.file.Close()
	s.file = nil
	return true
}

// takeBack holds a descriptor again. It may be called more often than lend.
func (s *spare) takeBack() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open()
}

func (s *spare) open() {
	if s.file == nil && !s.closed {
		s.file, _ = os.Open(os.DevNull) // if there is none, the next one may be luckier
	}
}

func (s *spare) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}
