package conns

import (
	"os"
	"sync"
	"time"
)

// spareTime is how long a connection may hold the spare descriptor: long enough
// for a question about the node's health.
const spareTime = 5 * time.Second

// spare is a file descriptor that is kept back for when the process has no others.
type spare struct {
	mu     sync.Mutex
	file   *os.File // nil while it is lent, or cannot be opened again
	closed bool
}

func newSpare() *spare {
	s := &spare{}
	s.takeBack()
	return s
}

// lend closes the descriptor, so that something else can be opened. It reports whether
// there was one.
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
		s.file, _ = os.Open(os.DevNull) // if that fails, the next call tries again
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
